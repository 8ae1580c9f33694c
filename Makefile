# `make demo` and `make test` are all that a newcomer needs; both may be run again at any time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export OMP_NUM_THREADS ?= 1

.PHONY: demo test quick golden lint types docs campaign gpu-check clean

demo: $(READY)
	$(BIN)/biasbench run benchmarks/scenes-demo.toml --results demo-results

# One process a core, at most four, each with whole files: their fixtures are costly.
test: $(READY)
	$(BIN)/pytest -q -n auto --maxprocesses=4 --dist loadfile

# Lint, types, the tests that need no torch, and one tiny cell: under 90 seconds.
quick: $(READY) lint types
	$(BIN)/pytest -m "not torch" -q
	$(BIN)/pytest -q tests/test_golden.py -k one_cell

# Four methods, two seeds, a tiny backbone, end to end, compared with recorded figures.
golden: $(READY)
	$(BIN)/pytest -q tests/test_golden.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

# Regenerates the page that a test compares: every --help text.
docs: $(READY)
	$(BIN)/python scripts/cli_docs.py

# Long reproductions, in parts that are kept: `make campaign SHARD=1/4` runs a quarter.
campaign: $(READY)
	$(BIN)/python benchmarks/campaign/campaign.py --results campaign-results $(if $(SHARD),--shard $(SHARD))

# Where there is a CUDA device: the same cells on it and on the CPU, compared.
gpu-check: $(READY)
	$(BIN)/python benchmarks/gpu_check.py

clean:
	rm -rf $(VENV) demo-results campaign-results

$(READY): pyproject.toml plugins/biasbench-groupdro/pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'biasbench needs Python 3.11 or newer')"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		-e ".[dev,faces,plot,ray,tensorboard]" -e plugins/biasbench-groupdro
	touch $(READY)
