"""Painting a scene: place the drawings, check that all can be seen, compose, keep every mask.

Drawings are stacked from back to front. A pixel belongs to the topmost drawing that covers
it by more than half, so that masks are what is left visible, and disjoint.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from biasbench import Split
from biasbench.builtin.datasets.scene import sprites
from biasbench.builtin.datasets.scene.backdrop import backdrop
from biasbench.builtin.datasets.scene.cast import Head
from biasbench.builtin.datasets.scene.model import Content
from biasbench.builtin.datasets.scene.plan import Actor, Person, choose
from biasbench.builtin.datasets.scene.sprites import Box

Cells = tuple[int, int, int, int]
_TRIES = 120
_FULL = 0.8  # the drawings' squares may add up to this share of the picture's
_PATIENCE = 2  # tries that hid something, before
_SHRINK = 0.94  # every size is reduced
_PLACES = 24  # positions looked at for each drawing
_BACK = ("scenery", "crowd", "bystander")  # painted first, in this order; the rest stacks at random
_VISIBLE = {"main": 0.75, "companion": 0.5, "object": 0.75, "cue": 0.7, "bystander": 0.25, "crowd": 0.0, "scenery": 0.0}
_FACE_VISIBLE = 0.8


@dataclass(frozen=True)
class Instance:
    """What one annotation points at.

    Attributes:
        category: `person` or a label.
        mask: [S, S] bool, its visible pixels.
        crowd: Whether it stands for a crowd.
    """

    category: str
    mask: NDArray[np.bool_]
    crowd: bool = False


@dataclass(frozen=True)
class Scene:
    """A painted scene.

    Attributes:
        image: RGB.
        person: Whom the captions name.
        content: What it is about.
        instances: All that is pictured and has a category; label noise is not in here.
        faces: Boxes of faces, cut to the picture: the person's, then those of others that can be seen.
        stems: File stems of the drawings used.
    """

    image: Image.Image
    person: Person
    content: Content
    instances: tuple[Instance, ...]
    faces: tuple[Box, ...]
    stems: tuple[str, ...]


@dataclass(frozen=True)
class _Layer:
    actor: Actor
    side: float
    patch: Image.Image
    cover: NDArray[np.bool_]  # of the patch's own size: where it hides what is behind
    x: int = 0
    y: int = 0

    @property
    def box(self) -> Cells:
        return self.x, self.y, self.x + self.patch.width, self.y + self.patch.height


def paint(content: Content, split: Split, size: int, rng: np.random.Generator) -> Scene:
    """Paint one scene of `size` pixels square."""
    person, actors = choose(content, split, rng)
    canvas = backdrop(rng, size)
    layers, owner = _arrange(actors, size, rng)
    for layer in layers:
        canvas.paste(layer.patch, (layer.x, layer.y), layer.patch)
    stems = tuple(sorted({a.stem for a in actors}))
    faces = tuple(_visible_faces(layers, owner, size))
    return Scene(canvas, person, content, tuple(_instances(layers, owner)), faces, stems)


def _arrange(actors: Sequence[Actor], size: int, rng: np.random.Generator) -> tuple[list[_Layer], NDArray[np.int16]]:
    """Layers from back to front, and the [S, S] number of the layer that each pixel belongs to (-1: none)."""
    wanted = sum(a.side**2 for a in actors if a.role not in _BACK)
    start = size * min(1.0, math.sqrt(_FULL / wanted))
    cut = [_cut(actor, actor.side * start) for actor in actors]
    for attempt in range(1, _TRIES):
        placed = _place(cut, size, rng)
        front = [layer for layer in placed if layer.actor.role not in _BACK]
        layers = [x for role in _BACK for x in placed if x.actor.role == role]
        layers += [front[i] for i in rng.permutation(len(front))]
        owner = np.full((size, size), -1, np.int16)
        for number, layer in enumerate(layers):
            window, cover = _inside(layer, size)
            owner[window][cover] = number
        if all(_seen(layer, owner == i, size) for i, layer in enumerate(layers) if _VISIBLE[layer.actor.role]):
            return layers, owner
        if attempt % _PATIENCE == 0:
            cut = [_cut(layer.actor, layer.side * _SHRINK) for layer in cut]
    raise AssertionError("a scene cannot be arranged, whatever its scale")


def _cut(actor: Actor, side: float) -> _Layer:
    """The drawing at a scale, not placed yet."""
    side = max(6.0, side)
    patch = sprites.cut(actor.stem, side, actor.turn, actor.flip, actor.colour)
    return _Layer(actor, side, patch, np.asarray(patch.getchannel("A")) > 127)


def _place(cut: Sequence[_Layer], size: int, rng: np.random.Generator) -> list[_Layer]:
    """Give each drawing the least crowded of some random places, far enough inside to be seen."""
    out: list[_Layer] = []
    taken = np.zeros((0, 4), np.int64)  # boxes that the next drawing should keep off
    line = rng.uniform(0.3, 0.8) * size  # where a crowd stands
    for layer in cut:
        w, h = layer.patch.size
        xs = rng.integers(-w // 12, max(1, size - w + w // 12), _PLACES)
        ys = rng.integers(-h // 12, max(1, size - h + h // 12), _PLACES)
        if layer.actor.role == "crowd":
            out.append(replace(layer, x=int(xs[0]), y=int(line - h / 2 + rng.uniform(-0.3, 0.3) * h)))
            continue
        boxes = np.stack([xs, ys, xs + w, ys + h], axis=1)
        best = boxes[_overlaps(boxes, taken).argmin()]
        out.append(replace(layer, x=int(best[0]), y=int(best[1])))
        if layer.actor.role != "scenery":
            taken = np.concatenate([taken, best[None]])
    return out


def _overlaps(boxes: NDArray[np.int64], taken: NDArray[np.int64]) -> NDArray[np.int64]:
    """[P] pixels that each of P boxes (x0, y0, x1, y1) shares with T others, summed over these."""
    low = np.maximum(boxes[:, None, :2], taken[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], taken[None, :, 2:])
    shared: NDArray[np.int64] = np.maximum(high - low, 0).prod(axis=2).sum(axis=1)
    return shared


def _inside(layer: _Layer, size: int) -> tuple[tuple[slice, slice], NDArray[np.bool_]]:
    """The window of the canvas that a layer lies in, and which of its pixels it covers."""
    x0, y0, x1, y1 = layer.box
    left, top, right, bottom = max(0, x0), max(0, y0), max(0, min(size, x1)), max(0, min(size, y1))
    cover = layer.cover[top - y0 : bottom - y0, left - x0 : right - x0]
    return (slice(top, bottom), slice(left, right)), cover


def _seen(layer: _Layer, visible: NDArray[np.bool_], size: int) -> bool:
    """Whether enough of a drawing, and of the person's face, is inside the picture and uncovered."""
    if visible.sum() < max(4, _VISIBLE[layer.actor.role] * layer.cover.sum()):
        return False
    if layer.actor.role != "main":
        return True
    own = np.zeros_like(visible)
    window, cover = _inside(layer, size)
    own[window] = cover
    x0, y0, x1, y1 = (round(v) for v in _face(layer, layer.actor.heads[0], size))
    area = own[y0:y1, x0:x1].sum()
    return bool(area > 0 and visible[y0:y1, x0:x1].sum() >= _FACE_VISIBLE * area)


def _visible_faces(layers: Sequence[_Layer], owner: NDArray[np.int16], size: int) -> Iterator[Box]:
    """Boxes of the faces of which a pixel can be seen, the main person's first."""
    numbered = sorted(enumerate(layers), key=lambda pair: pair[1].actor.role != "main")
    for number, layer in numbered:
        for head in layer.actor.heads:
            box = _face(layer, head, size)
            x0, y0, x1, y1 = (round(v) for v in box)
            if (owner[y0:y1, x0:x1] == number).any():
                yield box


def _face(layer: _Layer, head: Head | None, size: int) -> Box:
    """A face's box on the canvas: its box in the drawing, mirrored, turned and scaled alike."""
    actor = layer.actor
    drawing = sprites.sprite(actor.stem)
    x0, y0, x1, y1 = sprites.face(actor.stem, head)
    if actor.flip:
        x0, x1 = drawing.width - x1, drawing.width - x0
    scale = layer.side / max(drawing.size)
    cos, sin = math.cos(math.radians(actor.turn)), math.sin(math.radians(actor.turn))
    xs, ys = [], []
    for x, y in ((x0, y0), (x1, y0), (x0, y1), (x1, y1)):
        dx, dy = (x - drawing.width / 2) * scale, (y - drawing.height / 2) * scale
        xs.append(layer.x + layer.patch.width / 2 + dx * cos + dy * sin)
        ys.append(layer.y + layer.patch.height / 2 + dy * cos - dx * sin)
    return max(0.0, min(xs)), max(0.0, min(ys)), min(float(size), max(xs)), min(float(size), max(ys))


def _instances(layers: Sequence[_Layer], owner: NDArray[np.int16]) -> Iterator[Instance]:
    crowd = np.isin(owner, [i for i, layer in enumerate(layers) if layer.actor.role == "crowd"])
    if crowd.any():
        yield Instance("person", crowd, crowd=True)
    for number, layer in enumerate(layers):
        mask = owner == number
        if layer.actor.category and layer.actor.role != "crowd" and mask.any():
            yield Instance(layer.actor.category, mask)
