"""`biasbench import-weights`: PyTorch's own files of weights become safetensors."""

from __future__ import annotations

from pathlib import Path

import click

from biasbench.cli.options import json_option


@click.command("import-weights")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE.safetensors", required=True, help="What to write; new."
)
@json_option
def importweights_command(file: Path, out: Path, as_json: bool) -> None:
    """Turn a PyTorch file (.pth, .pt, .bin) into safetensors.

    Such files can hold code. FILE is read in a process of its own with little memory and
    time, and nothing but plain tensors is taken from it. Use what is written with
    biasbench run --weights FILE.safetensors.
    """
    from biasbench.cli.output import emit, emit_json, size
    from biasbench.errors import printable
    from biasbench.imports import import_weights

    made = import_weights(file, out)
    if as_json:
        emit_json(
            "import-weights",
            {"path": str(made.path), "sha256": made.sha256, "tensors": made.tensors, "numbers": made.numbers},
        )
        return
    told = f"{made.tensors} tensors, {made.numbers} numbers, {size(made.path.stat().st_size)}"
    emit(f"{printable(made.path)}: {told}, SHA-256 {made.sha256[:16]}…")
