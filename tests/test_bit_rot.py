"""Single bits flipped in files of every kind: none is used. The long version is a promise of the campaign."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks" / "campaign"
sys.path.insert(0, str(FOLDER))
try:
    import integrity
finally:
    sys.path.remove(str(FOLDER))

KINDS = 19
GOOD = {"refused", "healed", "without effect"}
HEALING = {"index", "memo", "activations", "what activations are", "pixels", "places of pixels", "what pixels are",
           "tensors of a checkpoint", "state of a checkpoint"}  # fmt: skip


@pytest.mark.torch
def test_no_flipped_bit_is_used() -> None:
    found = integrity.flipped(11 * KINDS, seed=1)
    kinds, naive = found["kinds"], found["naive"]
    assert len(kinds) == KINDS
    assert {kind: counts for kind, counts in kinds.items() if set(counts) - GOOD} == {}
    assert sum(sum(counts.values()) for counts in kinds.values()) >= 200
    for kind, counts in kinds.items():  # a result is refused and never made again; a cache is made again
        assert ("healed" if kind not in HEALING else "refused") not in counts, kind
        assert counts.get("healed" if kind in HEALING else "refused", 0) > 0, kind
    # the control: readers that check no hash get wrong values without a word
    assert sum(counts.get("wrong", 0) for counts in naive.values()) > 40
    assert {kind for kind, counts in naive.items() if counts.get("wrong")} > {"predictions", "weights", "pixels"}


def test_a_result_with_a_flipped_bit_is_named(tmp_path: Path) -> None:
    kinds = integrity.stored(tmp_path / "store")
    for name, kind in kinds.items():
        before = kind.file.read_bytes()
        damaged = bytearray(before)
        damaged[len(before) // 2] ^= 4
        kind.file.write_bytes(damaged)
        if name != "index":
            with pytest.raises(integrity.BiasBenchError, match=kind.file.parent.name) as caught:
                kind.use()
            assert caught.value.exit_code in (5, 6)
        kind.file.write_bytes(before)


def test_the_index_says_that_it_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kind = integrity.stored(tmp_path / "store")["index"]
    expected, content = kind.use(), bytearray(kind.file.read_bytes())
    place = bytes(content).index(b"51.25")
    content[place] ^= 4  # 51.25 becomes 11.25
    kind.file.write_bytes(content)
    assert kind.naive is not None
    assert "11.25" in str(kind.naive())
    assert kind.use() == expected
    assert "made again" in caplog.text
    assert "11.25" not in str(kind.naive())
