"""Reading image files that may be anything, and resizing them the way torchvision does.

Fixed rules, so that a file means the same pixels everywhere: JPEG and PNG only, told by
content and not by name; EXIF orientation is ignored (COCO's annotations are in the stored
orientation); ICC profiles are ignored; alpha is dropped; 16 bits become their upper 8.
Pillow decodes; on JPEG its pixels are those of `torchvision.io`, bit for bit, whose
decoders torchvision 0.29 has deprecated.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from biasbench.errors import DataError, printable

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

Image = NDArray[np.uint8]  # [H, W, 3] RGB

MAX_BYTES = 50_000_000
MAX_PIXELS = 64_000_000
MAX_ASPECT = 50  # beyond it, resizing the short side up would make a bomb of a small file
_MAX_HEADER = 4 << 20  # bytes of metadata before the size of a JPEG, before the pixels of a PNG
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_NO_SIZE = {0xC4, 0xC8, 0xCC}  # in the range of frame markers, but tables and extensions


@dataclass(frozen=True)
class Header:
    """What a file says about its picture before it is decoded."""

    kind: Literal["jpeg", "png"]
    height: int
    width: int


def read_image(path: Path) -> Image:
    """The pixels of a JPEG or PNG file, [H, W, 3] uint8 RGB.

    Raises:
        DataError: One line with the file's name, when it is missing, no regular file, of
            another format, damaged, truncated, over 50 MB or 64 megapixels, more than
            50 times longer than wide, or with more than 4 MB of metadata before its picture.
    """
    return _read_as(path, _unpacked)


def read_resized(path: Path, side: int) -> tuple[Image, tuple[int, int]]:
    """`resize_short(read_image(path), side)` with the file's own height and width: the same pixels, sooner.

    Pillow holds RGB as four bytes a pixel, and torch resizes four channels as fast as three: the large
    picture need not be packed into three.

    Raises:
        DataError: As `read_image`.
    """
    image = _read_as(path, _as_held)  # [H, W, 3 or 4]
    native = image.shape[0], image.shape[1]
    small = resize_short(image, side)
    if small.shape[2] == 3:
        return small, native
    packed = np.empty((*small.shape[:2], 3), np.uint8)
    for channel in range(3):  # several times faster than all at once
        packed[..., channel] = small[..., channel]
    return packed, native


def _read_as(path: Path, made: Callable[[ImageFile], Image]) -> Image:
    data = _read(path)
    try:
        header = read_header(data[:_MAX_HEADER])
        _check_size(header)
    except ValueError as error:
        raise unreadable(path, str(error)) from error
    try:
        return _decode(data, made)
    except Exception as error:  # decoders of hostile bytes raise anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise unreadable(path, f"damaged or truncated ({printable(reason, 120)})") from error


def unreadable(path: Path, why: str) -> DataError:
    """The error for a file that is no usable picture."""
    return DataError(f"cannot be used as an image: {why}", where=printable(path))


def _read(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would block for ever
            raise unreadable(path, "not a regular file")
        if status.st_size > MAX_BYTES:
            raise unreadable(path, f"{status.st_size / 1e6:.0f} MB, at most {MAX_BYTES / 1e6:.0f} are read")
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error.strerror or "cannot be opened") from error


def _check_size(header: Header) -> None:
    short, long = sorted((header.height, header.width))
    if short < 1:
        raise ValueError("it has no pixels")
    if short * long > MAX_PIXELS:
        raise ValueError(f"{header.width}x{header.height} pixels, at most {MAX_PIXELS // 1_000_000} million are read")
    if long > MAX_ASPECT * short:
        raise ValueError(f"{header.width}x{header.height}, more than {MAX_ASPECT} times longer than wide")


def read_header(data: bytes) -> Header:
    """Format and size, without decoding.

    Args:
        data: The file, or its first 4 MiB.

    Raises:
        ValueError: Saying why, when the bytes are no JPEG or PNG or end before their size.

    Example:
        >>> read_header(b"GIF89a")
        Traceback (most recent call last):
            ...
        ValueError: neither JPEG nor PNG
    """
    start = data[:8]
    if start.startswith(_JPEG):
        return _jpeg_header(data)
    if start == _PNG:
        return _png_header(data)
    if not data:
        raise ValueError("it is empty")
    raise ValueError("neither JPEG nor PNG")


def _png_header(data: bytes) -> Header:
    if data[12:16] != b"IHDR" or len(data) < 24:
        raise ValueError("damaged or truncated (no PNG header)")
    at = len(_PNG)
    while data[at + 4 : at + 8] not in (b"IDAT", b""):
        at += 12 + int.from_bytes(data[at : at + 4], "big")
        if at >= _MAX_HEADER:
            raise ValueError(f"more than {_MAX_HEADER >> 20} MB of metadata")
    width, height = (int.from_bytes(data[i : i + 4], "big") for i in (16, 20))
    return Header("png", height, width)


def _jpeg_header(data: bytes) -> Header:
    at = 2
    while at + 8 < len(data):
        if data[at] != 0xFF:
            raise ValueError("damaged or truncated (no JPEG marker where one must be)")
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in _NO_SIZE:
            height, width = (int.from_bytes(data[i : i + 2], "big") for i in (at + 5, at + 7))
            return Header("jpeg", height, width)
        if marker in (0xD9, 0xDA):
            break  # the picture ends or starts, and no size was given
        at += 2 if marker == 0x01 or 0xD0 <= marker <= 0xD7 else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise ValueError("damaged or truncated (no JPEG frame header)")


def _decode(data: bytes, made: Callable[[ImageFile], Image]) -> Image:
    from PIL import Image as Pillow

    with Pillow.open(BytesIO(data), formats=["JPEG", "PNG"]) as file:
        file.load()
        return made(file)


def _unpacked(file: ImageFile) -> Image:
    if file.mode.startswith("I"):
        upper = (np.asarray(file).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(upper[:, :, None], 3, axis=2)
    # Palettes with transparency go through RGBA: the direct way is undefined and warns.
    flat = file.convert("RGBA") if file.mode == "P" and "transparency" in file.info else file
    return np.array(flat if flat.mode == "RGB" else flat.convert("RGB"))


def _as_held(file: ImageFile) -> Image:
    """[H, W, 4] of Pillow's own memory, the fourth byte meaning nothing; [H, W, 3] where it is not held so."""
    if file.mode != "RGB" or not hasattr(file, "__arrow_c_array__"):
        return _unpacked(file)
    import pyarrow as pa
    from torch.utils.dlpack import from_dlpack

    try:
        held = pa.array(file)
    except ValueError:  # a large picture lies in several blocks
        return _unpacked(file)
    shared: Image = from_dlpack(held.values).view(file.height, file.width, 4).numpy()
    return shared


def resize_short(image: Image, side: int) -> Image:
    """`image` with its short side resized to `side`, as `torchvision.transforms.v2.Resize(side)` does.

    Bilinear and antialiased; the long side is `int(side * long / short)`. An image whose
    short side fits already is returned as it is.

    Example:
        >>> resize_short(np.zeros((30, 50, 3), np.uint8), 15).shape
        (15, 25, 3)
    """
    if min(image.shape[:2]) == side:
        return image
    import torch
    from torchvision.transforms.v2.functional import resize_image

    chw = torch.from_numpy(np.require(image, requirements="W")).permute(2, 0, 1)
    resized: Image = resize_image(chw, [side], antialias=True).permute(1, 2, 0).numpy()
    return np.ascontiguousarray(resized)
