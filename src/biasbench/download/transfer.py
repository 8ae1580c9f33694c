"""One download over HTTP: resumed where it was cut, checked, and whole or absent."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from biasbench import __version__, io
from biasbench.data import Progress
from biasbench.download.unpack import require_room
from biasbench.errors import DataError, StoreError, UsageError, printable

CHUNK = 1 << 20
TIMEOUT = 60.0  # seconds without a byte
TRIES = 5  # in a row that bring no byte
WAIT = 1.0  # seconds before the first new try; doubled each time
_AGENT = f"biasbench/{__version__}"


def fetch(
    url: str,
    to: Path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Download a file, going on where an earlier try stopped.

    What has arrived is kept as `<name>.part`, and renamed when it is whole and its checksum is right.
    A file that is already there is checked and kept.

    Args:
        url: An http or https address.
        to: The file to make.
        sha256: Expected digest in hex.
        md5: Expected digest in hex, where only this one is published.
        progress: Called with (bytes done, bytes in all or 0 if unknown).

    Raises:
        UsageError: For another kind of address.
        DataError: When the server refuses, goes on failing, or the checksum is wrong (the file is
            removed then).
        StoreError: When the disk is full or cannot be written, or another process is at it.
    """
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"not an http address: {printable(url)!r}", fix="Give an address that starts with https://")
    part = to.with_name(f"{to.name}.part")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{to}.lock", timeout=0):
            try:
                if to.exists():
                    _check(to, url, sha256, md5)
                else:
                    _Transfer(url, part, progress).run()
                    _check(part, url, sha256, md5)
                    os.replace(part, to)
                    _validator(part).unlink(missing_ok=True)
            finally:
                Path(f"{to}.lock").unlink(missing_ok=True)
    except Timeout as error:
        raise StoreError("another process downloads this file", where=printable(to), fix="Wait for it") from error
    except OSError as error:
        raise io.unwritable(to, error) from error
    return to


def _check(path: Path, url: str, sha256: str | None, md5: str | None) -> None:
    for name, expected in (("sha256", sha256), ("md5", md5)):
        if expected is None:
            continue
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, partial(hashlib.new, name, usedforsecurity=False)).hexdigest()
        if found != expected.lower():
            path.unlink()
            _validator(path).unlink(missing_ok=True)
            raise DataError(
                f"{name} of the download is {found[:16]}…, expected {expected[:16]}…; the file was removed",
                where=printable(url),
                fix="Run the same command again; if it stays so, the server has another file",
            )


def _validator(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


class _Transfer:
    """One download into a `.part` file, over as many connections as it takes."""

    def __init__(self, url: str, part: Path, progress: Progress | None) -> None:
        self.url, self.part, self.progress = url, part, progress
        self.total = 0

    def run(self) -> None:
        failures, best, reason = 0, self._have(), ""
        while failures < TRIES:
            try:
                if self._connect():
                    return
                reason = "the connection was cut"
            except urllib.error.HTTPError as error:
                error.close()
                reason = f"the server says {error.code} {printable(error.reason)}"
                if error.code == 416:  # nothing behind what we have: it is whole, or not this file
                    if self._have() == _total(error.headers.get("Content-Range")):
                        return
                    self.part.unlink(missing_ok=True)
                elif error.code < 500 and error.code not in (408, 429):
                    raise DataError(reason, where=printable(self.url), fix="Check the address") from error
            except (OSError, http.client.HTTPException) as error:
                reason = printable(getattr(error, "reason", None) or error or type(error).__name__)
            failures = 0 if self._have() > best else failures + 1
            best = max(best, self._have())
            time.sleep(WAIT * 2 ** max(0, failures - 1) if failures < TRIES else 0)
        raise DataError(
            f"the download failed {TRIES} times: {reason}; {self._have()} bytes are kept",
            where=printable(self.url),
            fix="Run the same command again: it goes on from there",
        )

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _connect(self) -> bool:
        """Take what one connection gives; whether the file is whole then."""
        have = self._have()
        headers = {"User-Agent": _AGENT, "Accept-Encoding": "identity"}
        known = _remembered(self.part)
        if have and known.get("url") == self.url and known.get("version"):
            headers |= {"Range": f"bytes={have}-", "If-Range": known["version"]}
        request = urllib.request.Request(self.url, headers=headers)  # noqa: S310 - the scheme was checked
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
            resumed = answer.status == 206 and _start(answer.headers.get("Content-Range")) == have
            if answer.status == 206 and not resumed:
                raise http.client.HTTPException("the server resumes at another place")
            length = int(answer.headers.get("Content-Length") or 0)
            self.total = length + (have if resumed else 0) if length else 0
            require_room(self.part.parent, length)
            version = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
            if not resumed:
                weak = (version or "").startswith("W/")
                self.part.unlink(missing_ok=True)
                io.write_text(
                    _validator(self.part), json.dumps({"url": self.url, "version": None if weak else version})
                )
            self._take(answer)
        return self._have() == self.total if self.total else True

    def _take(self, answer: http.client.HTTPResponse) -> None:
        try:
            with open(self.part, "ab") as file:
                for chunk in _chunks(answer):
                    file.write(chunk)
                    if self.progress is not None:
                        self.progress(file.tell(), self.total)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise io.unwritable(self.part, error) from error


def _chunks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """What arrives, with the network's errors told apart from those of the disk."""
    while True:
        try:
            chunk = answer.read(CHUNK)
        except OSError as error:
            raise http.client.HTTPException(str(error) or type(error).__name__) from error
        if not chunk:
            return
        yield chunk


def _remembered(part: Path) -> dict[str, Any]:
    try:
        value = io.read_json(_validator(part))
    except StoreError:
        return {}
    return value if isinstance(value, dict) else {}


def _start(content_range: str | None) -> int:
    match = re.fullmatch(r"bytes (\d+)-\d+/(?:\d+|\*)", content_range or "")
    return int(match[1]) if match else -1


def _total(content_range: str | None) -> int:
    match = re.fullmatch(r"bytes \*/(\d+)", content_range or "")
    return int(match[1]) if match else -1
