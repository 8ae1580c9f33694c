"""Decoding and the image store; the loader is in test_loader.py."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from torchvision.transforms import v2

from biasbench import DataError, IntegrityError
from biasbench.images import ImageStore, read_image, resize_short, store_key
from biasbench.images import decode as decoding

pytestmark = pytest.mark.torch

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "real" / "coco-sample" / "val2017"


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth random picture: JPEG keeps it nearly as it is."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    return np.asarray(Pillow.fromarray(coarse).resize((width, height), Pillow.Resampling.BICUBIC))


def encoded(kind: str, image: np.ndarray | None = None, mode: str = "RGB", **options: object) -> bytes:
    file = BytesIO()
    Pillow.fromarray(picture(60, 80) if image is None else image).convert(mode).save(file, kind, **options)
    return file.getvalue()


def png(height: int, width: int, depth: int = 8, colour: int = 0, data: bytes | None = None) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"" if data is None else data))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IEND", b"")


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[bytes], Path]:
    def save(content: bytes) -> Path:
        path = tmp_path / "picture.jpg"
        path.write_bytes(content)
        return path

    return save


def test_naming_a_store_imports_no_torch() -> None:
    code = "import sys, biasbench.images, biasbench.weights; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- what is read ---------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_pixels_are_those_of_the_plain_decoder(kind: str, saved: Callable[[bytes], Path]) -> None:
    content = encoded(kind)
    image = read_image(saved(content))
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert (image == np.asarray(Pillow.open(BytesIO(content)).convert("RGB"))).all()


def test_png_is_lossless(saved: Callable[[bytes], Path]) -> None:
    assert (read_image(saved(encoded("PNG"))) == picture(60, 80)).all()


@pytest.mark.parametrize("mode", ["L", "CMYK", "YCbCr"])
def test_other_jpeg_colour_spaces(mode: str, saved: Callable[[bytes], Path]) -> None:
    image = read_image(saved(encoded("JPEG", mode=mode, quality=95))).astype(int)
    wanted = np.asarray(Pillow.fromarray(picture(60, 80)).convert("L" if mode == "L" else "RGB").convert("RGB"))
    assert np.abs(image - wanted).mean() < 3


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_other_png_modes(mode: str, saved: Callable[[bytes], Path]) -> None:
    content = encoded("PNG", mode=mode)
    wanted = np.asarray(Pillow.fromarray(picture(60, 80)).convert(mode).convert("RGB"))
    assert (read_image(saved(content)) == wanted).all()


def test_sixteen_bits_become_their_upper_eight(saved: Callable[[bytes], Path]) -> None:
    values = (np.arange(4 * 6).reshape(4, 6) * 2731).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    image = read_image(saved(png(4, 6, depth=16, data=rows)))
    assert (image == (values >> 8)[:, :, None]).all()


def test_palette_with_transparency_keeps_its_colours(saved: Callable[[bytes], Path]) -> None:
    file, palette = BytesIO(), Pillow.fromarray(picture(8, 8)).quantize(16)
    palette.save(file, "PNG", transparency=bytes(range(0, 256, 16)))
    assert (read_image(saved(file.getvalue())) == np.asarray(palette.convert("RGB"))).all()


def test_exif_orientation_is_ignored(saved: Callable[[bytes], Path]) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees to show"
    assert read_image(saved(encoded("JPEG", exif=exif))).shape == (60, 80, 3)


def test_garbage_in_the_colour_profile_is_ignored(saved: Callable[[bytes], Path]) -> None:
    assert read_image(saved(encoded("JPEG", icc_profile=b"no profile at all"))).shape == (60, 80, 3)


def test_what_follows_the_picture_is_ignored(saved: Callable[[bytes], Path]) -> None:
    plain = read_image(saved(encoded("JPEG")))
    assert (read_image(saved(encoded("JPEG") + b"PK\x03\x04 also a zip")) == plain).all()


# -- what is refused ------------------------------------------------------------------------
def bad_files() -> dict[str, bytes]:
    jpeg, portable = encoded("JPEG"), encoded("PNG")
    large = bytearray(jpeg)
    at = jpeg.index(b"\xff\xc0")
    large[at + 5 : at + 9] = struct.pack(">HH", 65_000, 65_000)
    files = {
        "empty": b"",
        "html": b"<!DOCTYPE html><html><title>404 Not Found</title></html>",
        "one byte": b"\xff",
        "only a signature": b"\xff\xd8\xff",
        "png signature": b"\x89PNG\r\n\x1a\n",
        "gif": encoded("GIF"),
        "tiff": encoded("TIFF"),
        "bmp": encoded("BMP"),
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
        "jpeg bomb": bytes(large),
        "png bomb of 88 megapixels": png(9_400, 9_400),
        "png bomb of 196 megapixels": png(14_000, 14_000),
        "a line": png(1, 65_535, data=bytes(65_536)),
        "no pixels": png(0, 10),
        "broken checksum": portable[:-20] + bytes([portable[-20] ^ 1]) + portable[-19:],
        "metadata without end": b"\xff\xd8" + (b"\xff\xe1\xff\xff" + bytes(65_533)) * 70 + jpeg[2:],
    }
    for kind, content in (("jpeg", jpeg), ("png", portable)):
        for part in range(1, 25):
            files[f"{kind} cut at {part}/25"] = content[: len(content) * part // 25]
    return files


@pytest.mark.parametrize("name", bad_files())
def test_a_bad_file_is_one_clear_line(name: str, saved: Callable[[bytes], Path]) -> None:
    path = saved(bad_files()[name])
    with pytest.raises(DataError) as caught:
        read_image(path)
    assert str(caught.value).startswith(f"{path}: cannot be used as an image: ")
    assert "\n" not in str(caught.value)


def test_too_many_bytes(saved: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_BYTES", 1000)
    with pytest.raises(DataError, match="MB, at most"):
        read_image(saved(encoded("PNG")))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_image(tmp_path / "absent.jpg")
    with pytest.raises(DataError, match="not a regular file"):
        read_image(tmp_path)
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(DataError, match="not a regular file"):  # and it does not block
        read_image(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    with pytest.raises(DataError, match="cannot be used as an image"):
        read_image(tmp_path / "loop.jpg")


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["JPEG", "PNG"]), st.data())
def test_damaged_bytes_never_raise_anything_else(kind: str, data: st.DataObject) -> None:
    content = bytearray(encoded(kind, picture(20, 30)))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        header = decoding.read_header(bytes(content))
        decoding._check_size(header)
    except ValueError:
        return
    try:
        image = decoding._decode(bytes(content), decoding._unpacked)
    except Exception:  # read_image turns all of them into one line
        return
    assert image.shape == (header.height, header.width, 3)


# -- resizing -------------------------------------------------------------------------------
@settings(max_examples=60, deadline=None)
@given(st.integers(4, 90), st.integers(4, 90), st.integers(4, 70))
def test_resizing_is_torchvisions(height: int, width: int, side: int) -> None:
    image = picture(height, width)
    wanted = v2.Resize(side, antialias=True)(torch.from_numpy(image.copy()).permute(2, 0, 1))
    resized = resize_short(image, side)
    assert resized.flags.c_contiguous
    assert (resized == wanted.permute(1, 2, 0).numpy()).all()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(4, 90), st.integers(4, 90), st.integers(4, 70),
    st.sampled_from([("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P")]),
)  # fmt: skip
def test_reading_at_a_size_is_reading_and_resizing(
    saved: Callable[[bytes], Path], height: int, width: int, side: int, kind: tuple[str, str]
) -> None:
    path = saved(encoded(kind[0], picture(height, width), kind[1]))
    image, native = decoding.read_resized(path, side)
    assert native == (height, width)
    assert image.flags.c_contiguous
    assert (image == resize_short(read_image(path), side)).all()


def test_a_picture_in_several_blocks_of_memory(saved: Callable[[bytes], Path]) -> None:
    path = saved(encoded("JPEG", picture(2100, 2300)))  # 19 MB, of which a block holds 16
    with Pillow.open(path) as file:
        file.load()
        with pytest.raises(ValueError, match="not contiguous"):
            pa.array(file)
    assert (decoding.read_resized(path, 64)[0] == resize_short(read_image(path), 64)).all()


# -- the store ------------------------------------------------------------------------------
SIZES = [(60, 80), (80, 60), (32, 32), (33, 101), (20, 25)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    root.mkdir()
    for i, (height, width) in enumerate(SIZES):
        kind = "PNG" if i % 2 else "JPEG"
        (root / f"{i}.{kind.lower()}").write_bytes(encoded(kind, picture(height, width, i)))
    return root


def table_of(root: Path) -> pd.DataFrame:
    names = sorted(p.name for p in root.iterdir())
    return pd.DataFrame({"id": names, "path": names})


def test_the_store_holds_the_resized_images(folder: Path, tmp_path: Path) -> None:
    table, seen = table_of(folder), []
    store = ImageStore.build(tmp_path / "store", table, folder, 32, lambda *p: seen.append(p), threads=2)
    assert seen == [(i + 1, len(SIZES)) for i in range(len(SIZES))]
    assert len(store) == len(SIZES)
    for row, (path, size) in enumerate(zip(table["path"], SIZES, strict=True)):
        image = store.image(row)
        assert (image == resize_short(read_image(folder / path), 32)).all()
        assert not image.flags.writeable
        assert store.native(row) == size
        assert store.scale(row) == 32 / min(size)
    store.verify()


def test_building_again_reads_no_image(folder: Path, tmp_path: Path) -> None:
    table = table_of(folder)
    first = ImageStore.build(tmp_path / "store", table, folder, 32)
    for path in folder.iterdir():
        path.unlink()
    again = ImageStore.build(tmp_path / "store", table, folder, 32)
    assert again.content == first.content


def test_threads_do_not_change_a_bit(folder: Path, tmp_path: Path) -> None:
    table = table_of(folder)
    contents = {ImageStore.build(tmp_path / f"s{n}", table, folder, 32, threads=n).content for n in (1, 3)}
    assert len(contents) == 1


def test_two_builders_at_once(folder: Path, tmp_path: Path) -> None:
    table, built = table_of(folder), []

    def build() -> None:
        built.append(ImageStore.build(tmp_path / "store", table, folder, 32, threads=1).content)

    threads = [threading.Thread(target=build) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 3
    assert len(set(built)) == 1


def test_an_empty_table_has_an_empty_store(tmp_path: Path) -> None:
    store = ImageStore.build(tmp_path / "store", pd.DataFrame({"id": [], "path": []}), tmp_path, 32)
    assert len(store) == 0
    store.verify()


def test_missing_images_are_counted_before_anything_is_decoded(folder: Path, tmp_path: Path) -> None:
    names = [f"absent-{i}.jpg" for i in range(7)]
    table = pd.concat([table_of(folder), pd.DataFrame({"id": names, "path": names})], ignore_index=True)
    with pytest.raises(
        DataError, match=r"7 of 12 images are missing: absent-0\.jpg, .* absent-4\.jpg and 2 more"
    ) as error:
        ImageStore.build(tmp_path / "store", table, folder, 32)
    assert "absent-5" not in str(error.value)
    assert not (tmp_path / "store").exists()


def test_bad_images_are_counted_and_leave_no_store(folder: Path, tmp_path: Path) -> None:
    (folder / "9.jpg").write_bytes(b"<html>")
    (folder / "8.jpg").write_bytes(b"")
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:200])
    wanted = (
        r"3 of 7 images cannot be used: 1\.png \(damaged.*\), 8\.jpg \(it is empty\), 9\.jpg \(neither JPEG nor PNG\)"
    )
    with pytest.raises(DataError, match=wanted):
        ImageStore.build(tmp_path / "store", table_of(folder), folder, 32)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "store.lock"]


def test_paths_may_not_leave_the_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(encoded("PNG"))
    with pytest.raises(DataError, match="refused the file name"):
        ImageStore.build(tmp_path / "store", pd.DataFrame({"id": ["a"], "path": ["../secret.png"]}), folder, 32)


def test_a_damaged_store_is_noticed(folder: Path, tmp_path: Path) -> None:
    store = ImageStore.build(tmp_path / "store", table_of(folder), folder, 32)
    pixels = tmp_path / "store" / "pixels.bin"
    content = pixels.read_bytes()
    pixels.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    with pytest.raises(IntegrityError, match="pixels have changed"):
        ImageStore.open(store.folder).verify()
    pixels.write_bytes(content[:-1])
    with pytest.raises(IntegrityError, match="damaged"):
        ImageStore.open(store.folder)


def test_the_key_follows_names_contents_and_size(folder: Path) -> None:
    table = table_of(folder)
    key = store_key(table, folder, 32)
    assert store_key(table.assign(label=1), folder, 32) == key
    keys = {key, store_key(table, folder, 33), store_key(table[::-1], folder, 32)}
    path = folder / "0.jpeg"
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    keys.add(store_key(table, folder, 32))
    path.unlink()
    keys.add(store_key(table, folder, 32))
    assert len(keys) == 5


@pytest.mark.skipif(not SHARED.is_dir(), reason="the sample of real COCO images is not here")
def test_real_images_are_torchvisions(tmp_path: Path) -> None:
    names = sorted(p.name for p in SHARED.iterdir())[:24]
    store = ImageStore.build(tmp_path / "store", pd.DataFrame({"id": names, "path": names}), SHARED, 256)
    for row, name in enumerate(names):
        plain = v2.functional.pil_to_tensor(Pillow.open(SHARED / name).convert("RGB"))
        on_pixels = v2.Resize(256, antialias=True)(plain).permute(1, 2, 0).numpy()
        assert (store.image(row) == on_pixels).all()
        # Pillow's own resizing, which older pipelines use, rounds differently by at most a level.
        on_pillow = np.asarray(v2.Resize(256)(Pillow.open(SHARED / name).convert("RGB")))
        assert np.abs(store.image(row).astype(int) - on_pillow).max() <= 1
