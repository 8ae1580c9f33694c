"""To see what happens where rights are missing, which root never lacks."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

VERSION = 0x20080522  # of the interface, linux/capability.h
READ_OR_WRITE_ANYTHING = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
PR_GET_SECUREBITS, PR_SET_SECUREBITS, NO_ROOT = 27, 28, 1


class Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class Data(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root is held to the rights of files like everybody else, and so are the processes that it starts.

    Another user would not do: it may not be allowed to read the interpreter's own library.
    """
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    bits = libc.prctl(PR_GET_SECUREBITS, 0, 0, 0, 0)
    if libc.prctl(PR_SET_SECUREBITS, bits | NO_ROOT, 0, 0, 0):
        pytest.skip(f"root cannot give up its rights here: {os.strerror(ctypes.get_errno())}")
    header, data = Header(VERSION, 0), (Data * 2)()
    assert libc.capget(ctypes.byref(header), data) == 0
    kept = data[0].effective
    try:
        data[0].effective = kept & ~READ_OR_WRITE_ANYTHING
        assert libc.capset(ctypes.byref(header), data) == 0
        yield
    finally:
        data[0].effective = kept
        assert libc.capset(ctypes.byref(header), data) == 0
        assert libc.prctl(PR_SET_SECUREBITS, bits, 0, 0, 0) == 0
