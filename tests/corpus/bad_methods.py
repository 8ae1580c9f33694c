"""A plugin file with methods whose answers no cell can use, and two that are odd and sound."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import torch

from biasbench import Method, hookimpl


class Odd(torch.Tensor):
    """A tensor of a class of its own."""


def said(outputs: Any, scores: Any) -> Any:
    return type(outputs)({"label": scores}, outputs.labels, outputs.ids)


class Base(Method):
    """What a method answers is decided by `answer`."""

    def answer(self, scores: np.ndarray) -> Any:
        raise NotImplementedError

    def postprocess(self, outputs, reference, head):
        return said(outputs, self.answer(outputs.scores["label"]))


class Narrow(Base):
    """One column is gone."""

    name = "narrow"

    def answer(self, scores):
        return scores[:, :1]


class Short(Base):
    """One row is gone."""

    name = "short"

    def answer(self, scores):
        return scores[1:]


class Words(Base):
    """Numbers as text."""

    name = "words"

    def answer(self, scores):
        return scores.astype(str)


class Lazy(Base):
    """Something that will be numbers later."""

    name = "lazy"

    def answer(self, scores):
        return (row for row in scores)


class View(Base):
    """The very array that it was given."""

    name = "view"

    def answer(self, scores):
        return scores[:]


class Subclass(Method):
    """Weights as a tensor of another class."""

    name = "subclass"

    def weight(self, losses, batch):
        return torch.ones_like(losses).as_subclass(Odd)


class Interrupts(Method):
    """Ctrl-C, as a plugin would press it."""

    name = "interrupts"

    def weight(self, losses, batch):
        raise KeyboardInterrupt


class Leaves(Method):
    """Ends its process as if all were well."""

    name = "leaves"

    def weight(self, losses, batch):
        import os

        os._exit(0)


class Segfault(Method):
    """Reads where there is nothing."""

    name = "segfault"

    def weight(self, losses, batch):
        return ctypes.string_at(0)


@hookimpl
def biasbench_methods():
    return [Narrow, Short, Words, Lazy, View, Subclass, Interrupts, Leaves, Segfault]
