"""Face boxes of scenes against the pixels of the drawings and of the painted pictures."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from biasbench.builtin.datasets.scene import cast, sprites
from biasbench.builtin.datasets.scene.model import Model
from biasbench.builtin.datasets.scene.write import Order, scene

ORDER = Order(Model(0.7, 0.03), {"train": 60, "val": 0, "test": 60}, 128, 0)
EYES = (102, 33, 19)  # of every drawn face that is not a mask, closed, tiny or of a dark tone
HAIRY = {"with pointed ears"}  # hair in the colour of the eyes
DRAWINGS = [(f, f.stem(g, t)) for f in cast.FAMILIES for g in ("man", "woman") for t in f.tones]


def eyes(stem: str) -> list[tuple[slice, slice]]:
    """Rows and columns of the eyes in a trimmed drawing: two spots of their colour, side by side and alike."""
    pixels = np.asarray(sprites.sprite(stem)).astype(int)
    spots, _ = ndimage.label((np.abs(pixels[..., :3] - EYES).max(axis=2) <= 3) & (pixels[..., 3] > 128))
    found = [s for k, s in enumerate(ndimage.find_objects(spots), 1) if 4 <= (spots == k).sum() <= 60]
    return [
        s for s in found
        if any(o is not s and abs(o[0].start - s[0].start) <= 1 and abs(o[0].stop - s[0].stop) <= 1 for o in found)
    ]  # fmt: skip


def test_both_eyes_of_every_drawn_face_are_in_a_box() -> None:
    seen = 0
    for family, stem in DRAWINGS:
        if family.doing in HAIRY:
            continue
        boxes = [sprites.face(stem, head) for head in family.heads]
        for rows, columns in eyes(stem):
            seen += 1
            assert any(
                x0 <= columns.start and columns.stop <= x1 and y0 <= rows.start and rows.stop <= y1
                for x0, y0, x1, y1 in boxes
            ), (family.doing, stem)
    assert seen > 400


def test_a_portrait_is_a_head_and_lies_in_its_box() -> None:
    for family, stem in DRAWINGS:
        if family.kind == "face":
            x0, y0, x1, y1 = sprites.face(stem, family.heads[0])
            down, across = np.nonzero(np.asarray(sprites.sprite(stem))[..., 3])
            assert x0 <= across.min() <= across.max() < x1, family.doing
            assert y0 <= down.min() <= down.max() < y1, family.doing


def test_the_tone_of_the_skin_moves_no_box_sideways() -> None:
    """Drawings of one family differ by colour alone, so their faces are in one place; a collar may count as chin."""
    for family in cast.FAMILIES:
        for gender in ("man", "woman"):
            stems = [family.stem(gender, tone) for tone in family.tones]
            found = [sprites.face(stem, family.heads[0]) for stem in stems]
            left, top, right, _ = np.ptp(np.array(found), axis=0)
            assert max(left, top, right) <= 6, (family.doing, gender)


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """People's drawings with the inside of their faces in magenta."""
    heads = {stem: f.heads for f, stem in DRAWINGS}
    heads |= {stem: cast.bystander_heads(stem) for split in ("train", "test") for stem in cast.bystanders(split)}
    plain = sprites.sprite

    def paint(stem: str) -> Image.Image:
        drawing = plain(stem).copy()
        for head in heads.get(stem, ()):
            x0, y0, x1, y1 = (round(v) for v in sprites.face(stem, head))
            inside = drawing.crop((x0, y0, x1, y1))
            magenta = Image.new("RGBA", inside.size, (255, 0, 255, 255))
            magenta.putalpha(inside.getchannel("A"))
            drawing.paste(magenta, (x0, y0))
        return drawing

    sprites._reduced.cache_clear()
    monkeypatch.setattr(sprites, "sprite", paint)
    yield
    sprites._reduced.cache_clear()


def test_painted_faces_are_in_the_boxes_and_fill_them(marked: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the magenta changes in a picture are its faces, wherever they were mirrored, turned and scaled to."""
    indices = [(split, i) for split in ("train", "test") for i in range(60)]
    with_magenta = [scene(ORDER, split, i) for split, i in indices]
    monkeypatch.undo()
    sprites._reduced.cache_clear()
    several = 0
    for (split, i), pink in zip(indices, with_magenta, strict=True):
        plain = scene(ORDER, split, i)
        assert plain.faces == pink.faces
        several += len(plain.faces) > 1
        difference = np.abs(np.asarray(plain.image).astype(int) - np.asarray(pink.image)).max(axis=2)
        changed, covered = difference > 40, np.zeros((128, 128), bool)
        for x0, y0, x1, y1 in plain.faces:
            box = np.s_[max(0, int(y0) - 1) : int(np.ceil(y1)) + 1, max(0, int(x0) - 1) : int(np.ceil(x1)) + 1]
            covered[box] = True
            assert changed[box].any()
        assert not (changed & ~covered).any(), (split, i)
        x0, y0, x1, y1 = plain.faces[0]  # the person's face: hardly covered
        inside = np.zeros((128, 128), bool)
        inside[round(y0) : round(y1), round(x0) : round(x1)] = True
        assert changed[inside].mean() > 0.4
    assert several > 20
