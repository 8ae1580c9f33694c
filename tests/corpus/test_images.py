"""Image files that may be anything, where COCO has a photograph: `biasbench data check`, and a run's decoder."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pillow

from biasbench import DataError
from biasbench.images import ImageStore
from biasbench.images import store as stores
from tests.corpus.said import calm
from tests.helpers.coco_files import HEIGHT, WIDTH
from tests.helpers.commands import Said
from tests.helpers.unprivileged import unprivileged

pytestmark = pytest.mark.torch
Cli = Callable[..., Said]


def encoded(kind: str, mode: str = "RGB", size: tuple[int, int] = (WIDTH, HEIGHT), **options: Any) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    file = BytesIO()
    Pillow.fromarray(pixels).convert(mode).save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, *before: bytes, depth: int = 8, colour: int = 0, data: bytes = b"") -> bytes:
    """A PNG of a claimed size, with chunks before its pixels."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(data))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(before) + body + chunk(b"IEND", b"")


def sixteen_bits() -> bytes:
    values = np.arange(HEIGHT * WIDTH, dtype=">u2").reshape(HEIGHT, WIDTH)
    return png(WIDTH, HEIGHT, depth=16, data=b"".join(b"\0" + row.tobytes() for row in values))


def cut(kind: str, of: int = 25) -> dict[str, bytes]:
    whole = encoded(kind)
    return {f", {i}/{of}": whole[: len(whole) * i // of] for i in range(1, of)}


def broken_checksum() -> bytes:
    whole = bytearray(encoded("PNG"))
    whole[len(whole) // 2] ^= 1
    return bytes(whole)


JPEG = encoded("JPEG")
REFUSED: dict[str, tuple[bytes, str]] = {
    "I1": (b"", "it is empty"),
    **{f"I2{part}": (content, "damaged or truncated") for part, content in cut("JPEG").items()},
    **{f"I3{part}": (content, "damaged or truncated") for part, content in list(cut("PNG").items())[::6]},
    "I4": (broken_checksum(), "damaged or truncated"),
    "I5": (png(14_000, 14_000), "14000x14000 pixels"),
    "I6": (png(9_400, 9_400, data=bytes(9_401 * 9_400)), "9400x9400 pixels"),
    "I7": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n/x 1 def showpage\n", "neither JPEG nor PNG"),
    "I8, tiff": (encoded("TIFF"), "neither JPEG nor PNG"),
    "I8, psd": (b"8BPS\0\1" + bytes(40), "neither JPEG nor PNG"),
    "I8, ico": (encoded("ICO", size=(32, 32)), "neither JPEG nor PNG"),
    "I8, gif": (
        encoded("GIF", save_all=True, append_images=[Pillow.new("RGB", (WIDTH, HEIGHT))]), "neither JPEG nor PNG"
    ),
    "I12": (png(65_535, 1, data=bytes(65_536)), "more than 50 times longer than wide"),
    "I14, JPEG": (JPEG[:2] + (b"\xff\xe1\xff\xff" + bytes(65_533)) * 160 + JPEG[2:], "no JPEG frame header"),
    "I14, PNG": (
        png(WIDTH, HEIGHT, chunk(b"tEXt", b"Comment\0" + bytes(10_000_000)), data=bytes((WIDTH + 1) * HEIGHT)),
        "4 MB of metadata",
    ),
}  # fmt: skip


def rotated() -> bytes:
    exif = Pillow.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees to show"
    return encoded("JPEG", exif=exif)


def ycck() -> bytes:
    """A JPEG of four components that Adobe's marker calls YCCK."""
    whole = encoded("JPEG", "CMYK")
    at = whole.index(b"Adobe") + 11  # the colour transform
    return whole[:at] + b"\2" + whole[at + 1 :]


READ: dict[str, bytes] = {
    "I9, CMYK": encoded("JPEG", "CMYK"),
    "I9, YCCK": ycck(),
    "I10, 16 bits": sixteen_bits(),
    "I10, palette with alpha": encoded("PNG", "P", transparency=0),
    "I10, 1 bit": encoded("PNG", "1"),
    "I11": rotated(),  # its stored size is the annotated one: turned, it would be of the wrong size
    "I13": encoded("JPEG", icc_profile=b"no profile at all"),
    "I15": JPEG + b"PK\x03\x04" + bytes(100) + b"PK\x05\x06" + bytes(18),
}


@pytest.fixture
def photo(coco_folder: Any) -> Path:
    """One of the photographs of a COCO folder."""
    found: Path = min((coco_folder() / "train2014").iterdir())
    return found


def check(cli: Cli, photo: Path) -> Said:
    said = cli("data", "check", "coco", "--data-root", photo.parents[1])
    calm(said)
    return said


@pytest.fixture(scope="module")
def started() -> list[object]:
    """Programs that were started."""
    import torchvision  # noqa: F401  # which asks the platform for its name

    seen: list[object] = []

    def noted(event: str, arguments: tuple[object, ...]) -> None:
        if event == "subprocess.Popen" and arguments[0] != sys.executable:  # masks are drawn by an interpreter of ours
            seen.append(arguments)

    sys.addaudithook(noted)
    subprocess.run(["/bin/sh", "-c", ":"], check=True)
    assert seen  # it does see them
    seen.clear()
    return seen


@pytest.mark.parametrize("case", REFUSED)
def test_refused(cli: Cli, photo: Path, tmp_path: Path, case: str, started: list[object]) -> None:
    content, why = REFUSED[case]
    photo.write_bytes(content)
    if "/" not in case or case.endswith("12/25"):  # a cut file is like any other here
        said = check(cli, photo)
        assert said.code == 4, said.text
        (line,) = [line for line in said.out.splitlines() if photo.name in line]
        assert why in line
    table = pd.DataFrame({"id": ["1"], "path": [photo.name]})
    with pytest.raises(DataError) as caught:
        ImageStore.build(tmp_path / "store", table, photo.parent, 32)
    assert photo.name in str(caught.value)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "store").exists()
    assert not started  # no helper, such as Ghostscript


@pytest.mark.parametrize("case", READ)
def test_read(cli: Cli, photo: Path, case: str) -> None:
    photo.write_bytes(READ[case])
    assert check(cli, photo).code == 0


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Has something done after a store has looked for its files, and before it reads them."""

    def when(act: Callable[[], object]) -> None:
        real = stores._decoded

        def late(*arguments: Any) -> Any:
            act()
            return real(*arguments)

        monkeypatch.setattr(stores, "_decoded", late)

    return when


def test_i16_a_file_that_is_deleted_between_scan_and_read_is_named(photo: Path, tmp_path: Path, meanwhile: Any) -> None:
    (photo.parent / "other.jpg").write_bytes(JPEG)
    meanwhile((photo.parent / "other.jpg").unlink)
    table = pd.DataFrame({"id": ["1", "2"], "path": [photo.name, "other.jpg"]})
    with pytest.raises(DataError, match=r"1 of 2 images cannot be used: other\.jpg \(No such file"):
        ImageStore.build(tmp_path / "store", table, photo.parent, 32)


@pytest.mark.parametrize("changes", [True, False])
def test_i17_a_file_that_changes_in_between_is_noticed(
    photo: Path, tmp_path: Path, meanwhile: Any, changes: bool
) -> None:
    photo.write_bytes(JPEG)
    meanwhile(lambda: photo.write_bytes(encoded("JPEG", quality=50)) if changes else None)
    table = pd.DataFrame({"id": ["1"], "path": [photo.name]})
    if changes:
        with pytest.raises(DataError, match="images changed while they were read"):
            ImageStore.build(tmp_path / "store", table, photo.parent, 32)
    else:
        ImageStore.build(tmp_path / "store", table, photo.parent, 32).verify()
    assert (tmp_path / "store").exists() is not changes


def test_i18_a_loop_of_links_is_named(cli: Cli, photo: Path) -> None:
    photo.unlink()
    photo.symlink_to(photo.name)
    said = check(cli, photo)
    assert said.code == 4
    assert photo.name in said.out


def test_i19_a_file_that_may_not_be_read_is_named(cli: Cli, photo: Path, tmp_path: Path) -> None:
    assert check(cli, photo).code == 0  # draws the masks, by an interpreter that not every user may start
    photo.chmod(0)
    with unprivileged():
        said = check(cli, photo)
    assert said.code == 4, said.text
    assert any(photo.name in line and "Permission denied" in line for line in said.out.splitlines())
