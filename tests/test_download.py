"""Downloads from a server on the loopback that misbehaves on request."""

from __future__ import annotations

import hashlib
import io
import os
import re
import threading
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from filelock import FileLock

from biasbench import DataError, StoreError, UsageError
from biasbench.builtin.datasets.coco import Coco
from biasbench.download import COCO_FILES, COCO_URL, download_coco, fetch, transfer, unpack

BODY = bytes(range(256)) * 4096  # 1 MiB


@dataclass
class Site:
    """What the server has and how it behaves.

    Attributes:
        files: Content by path.
        cuts: Bytes after which each of the next answers is cut.
        ranges: Whether it can resume.
        etag: Version of its files, or none.
        errors: Status of each of the next answers, before anything else.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    errors: list[int] = field(default_factory=list)
    ranges: bool = True
    etag: str | None = '"1"'
    seen: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        site = self.server.site
        asked = self.headers.get("Range")
        site.seen.append((self.path, asked))
        if site.errors:
            self.send_error(site.errors.pop(0))
            return
        if self.path not in site.files:
            self.send_error(404)
            return
        body, start = site.files[self.path], 0
        if asked and site.ranges and self.headers.get("If-Range") == site.etag:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if site.etag:
            self.send_header("ETag", site.etag)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        cut = site.cuts.pop(0) if site.cuts else len(body)
        self.wfile.write(body[start : start + cut])
        self.close_connection = True

    def log_message(self, *args):
        pass


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setattr(transfer, "WAIT", 0.0)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.site = Site(files={"/a.bin": BODY}, url=f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.site
    server.shutdown()
    thread.join()
    server.server_close()


def get(site, to, **options):
    return fetch(f"{site.url}/a.bin", to, **options)


def only(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_plain_download(site, tmp_path):
    steps = []
    path = get(site, tmp_path / "x" / "a.bin", progress=lambda *s: steps.append(s), md5=hashlib.md5(BODY).hexdigest())
    assert path.read_bytes() == BODY
    assert steps[-1] == (len(BODY), len(BODY))
    assert only(tmp_path / "x") == ["a.bin"]
    get(site, path, sha256=hashlib.sha256(BODY).hexdigest().upper())
    assert len(site.seen) == 1  # what is there and right is not fetched again


def test_a_cut_connection_is_resumed(site, tmp_path):
    site.cuts = [100_000, 0, 300_001]
    steps = []
    path = get(site, tmp_path / "a.bin", sha256=hashlib.sha256(BODY).hexdigest(), progress=lambda *s: steps.append(s))
    assert path.read_bytes() == BODY
    assert [r for _, r in site.seen] == [None, "bytes=100000-", "bytes=100000-", "bytes=400001-"]
    assert {total for _, total in steps} == {len(BODY)}


def test_an_interrupted_download_goes_on_in_the_next_run(site, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "TRIES", 1)
    site.cuts = [5000, 0]
    with pytest.raises(DataError, match=r"failed 1 times: the connection was cut; 5000 bytes are kept\. .*goes on"):
        get(site, tmp_path / "a.bin")
    assert (tmp_path / "a.bin.part").read_bytes() == BODY[:5000]
    assert not (tmp_path / "a.bin").exists()
    assert get(site, tmp_path / "a.bin").read_bytes() == BODY
    assert site.seen[-1][1] == "bytes=5000-"
    assert only(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("etag", ['"1"', None, 'W/"1"'])
def test_a_server_that_cannot_resume_starts_over(site, tmp_path, etag):
    site.ranges, site.etag, site.cuts = False, etag, [700_000, 900_000]
    assert get(site, tmp_path / "a.bin").read_bytes() == BODY
    assert len(site.seen) == 3


def test_two_versions_are_never_mixed(site, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "TRIES", 1)
    site.cuts = [5000, 0]
    with pytest.raises(DataError):
        get(site, tmp_path / "a.bin")
    site.etag, site.files["/a.bin"] = '"2"', BODY[::-1]
    assert get(site, tmp_path / "a.bin").read_bytes() == BODY[::-1]


def test_a_whole_part_needs_no_more_bytes(site, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(BODY)
    (tmp_path / "a.bin.part.json").write_text(f'{{"url": "{site.url}/a.bin", "version": "\\"1\\""}}')
    assert get(site, tmp_path / "a.bin").read_bytes() == BODY
    assert site.seen == [("/a.bin", f"bytes={len(BODY)}-")]


def test_a_part_that_is_too_long_starts_over(site, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(BODY + b"x")
    (tmp_path / "a.bin.part.json").write_text(f'{{"url": "{site.url}/a.bin", "version": "\\"1\\""}}')
    assert get(site, tmp_path / "a.bin").read_bytes() == BODY


@pytest.mark.parametrize("digest", ["sha256", "md5"])
def test_a_wrong_checksum_removes_the_file(site, tmp_path, digest):
    with pytest.raises(DataError, match=rf"{digest} of the download is .* the file was removed"):
        get(site, tmp_path / "a.bin", **{digest: "0" * 32})
    assert only(tmp_path) == []
    (tmp_path / "a.bin").write_bytes(b"old")
    with pytest.raises(DataError, match="removed"):
        get(site, tmp_path / "a.bin", **{digest: "0" * 32})
    assert only(tmp_path) == []


def test_404_is_final(site, tmp_path):
    with pytest.raises(DataError, match=r"/b\.bin: the server says 404 Not Found\. Check the address"):
        fetch(f"{site.url}/b.bin", tmp_path / "b.bin")
    assert len(site.seen) == 1
    assert only(tmp_path) == []


def test_a_server_in_trouble_is_asked_again(site, tmp_path):
    site.errors = [503, 429]
    assert get(site, tmp_path / "a.bin").read_bytes() == BODY
    site.errors = [500] * 9
    with pytest.raises(DataError, match="failed 5 times: the server says 500"):
        get(site, tmp_path / "b.bin")


def test_nobody_there(site, tmp_path):
    with pytest.raises(DataError, match=r"failed 5 times: .*refused"):
        fetch("http://127.0.0.1:9/a.bin", tmp_path / "a.bin")
    with pytest.raises(UsageError, match="not an http address: 'file:///etc/passwd'"):
        fetch("file:///etc/passwd", tmp_path / "a.bin")


def test_a_disk_too_small_is_said_before_the_first_byte(site, tmp_path, monkeypatch):
    real = unpack.shutil.disk_usage
    monkeypatch.setattr(unpack.shutil, "disk_usage", lambda path: real(path)._replace(free=1000))
    with pytest.raises(StoreError, match=r"0\.0 GiB are needed and 0\.0 GiB are free"):
        get(site, tmp_path / "a.bin")
    assert not (tmp_path / "a.bin").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")  # noqa: PTH110
def test_a_disk_that_fills_up(site, tmp_path, monkeypatch):
    (tmp_path / "a.bin.part").symlink_to("/dev/full")
    monkeypatch.setattr(type(tmp_path), "unlink", lambda *_, **__: None)  # keep the link
    with pytest.raises(StoreError, match="the disk is full"):
        get(site, tmp_path / "a.bin")


def test_two_at_once(site, tmp_path):
    with FileLock(tmp_path / "a.bin.lock"), pytest.raises(StoreError, match="another process downloads"):
        get(site, tmp_path / "a.bin")


# -- unpacking -------------------------------------------------------------------------------
def packed(members, path, **options):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def link(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o120777 << 16
    return info


def test_unzip_and_again(tmp_path):
    path = packed([("in/", b""), ("in/a", b"abc"), ("in/deep/b", b"defg")], tmp_path / "z.zip")
    steps = []
    assert unpack.unzip(path, tmp_path / "to", "in", lambda *s: steps.append(s)) == 2
    assert steps == [(3, 7), (7, 7)]
    assert (tmp_path / "to" / "in" / "deep" / "b").read_bytes() == b"defg"
    (tmp_path / "to" / "in" / "a").write_bytes(b"xyz")  # of the right size: kept
    (tmp_path / "to" / "in" / "deep" / "b").write_bytes(b"cut")  # of another size: unpacked again
    unpack.unzip(path, tmp_path / "to", "in")
    assert (tmp_path / "to" / "in" / "a").read_bytes() == b"xyz"
    assert (tmp_path / "to" / "in" / "deep" / "b").read_bytes() == b"defg"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("in/../../x", b"")], "leaves its folder"),
        ([("/x", b"")], r"'/x' lies outside in/"),
        ([("../x", b"")], "lies outside in/"),
        ([("in\\..\\..\\x", b"")], "lies outside in/|leaves its folder"),
        ([("other/x", b"")], "'other/x' lies outside in/"),
        ([(link("in/x"), b"/etc/passwd")], "is no regular file"),
        ([("in/x", bytes(200 << 20))], "unpacks to 209715200 bytes from"),
    ],
)
def test_hostile_archives(tmp_path, members, message):
    path = packed(members, tmp_path / "z.zip")
    with pytest.raises(DataError, match=message):
        unpack.unzip(path, tmp_path / "to", "in")
    assert not (tmp_path / "to").exists()
    assert only(tmp_path) == ["z.zip"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_stands_twice(tmp_path):
    path = packed([("in/a", b"1"), ("in/a", b"2")], tmp_path / "z.zip")
    with pytest.raises(DataError, match="'in/a' stands twice"):
        unpack.unzip(path, tmp_path / "to", "in")


def test_a_damaged_archive(tmp_path):
    path = packed([("in/a", os.urandom(5000))], tmp_path / "z.zip")
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="the archive is damaged: "):
        unpack.unzip(path, tmp_path / "to", "in")
    assert not [p for p in (tmp_path / "to").rglob("*") if p.is_file()]
    path.write_bytes(b"<html>")
    with pytest.raises(DataError, match="the archive is damaged: File is not a zip file"):
        unpack.unzip(path, tmp_path / "to", "in")


# -- COCO --------------------------------------------------------------------------------------
def zipped(folder, names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            for path in sorted((folder / name).iterdir()):
                archive.write(path, f"{name}/{path.name}")
    return buffer.getvalue()


def test_coco_is_fetched_and_read(site, coco_folder, tmp_path):
    source = coco_folder()
    site.files = {
        "/annotations/annotations_trainval2014.zip": zipped(source, ["annotations"]),
        "/zips/train2014.zip": zipped(source, ["train2014"]),
        "/zips/val2014.zip": zipped(source, ["val2014"]),
    }
    site.cuts = [3000]
    steps = []
    root = tmp_path / "data" / "coco"
    folders = download_coco(root, "2014", base_url=f"{site.url}/", progress=lambda *s: steps.append(s))
    assert sorted(f.name for f in folders) == ["annotations", "train2014", "val2014"]
    assert only(root) == [".biasbench-downloads.json", "annotations", "train2014", "val2014"]
    assert {what for what, _, _ in steps} >= {"download train2014.zip", "unpack train2014.zip"}
    mine, theirs = (Coco(r, tmp_path / "cache") for r in (root, source))
    assert mine.fingerprint() == theirs.fingerprint()
    before = len(site.seen)
    download_coco(root, "2014", ["val", "annotations"], base_url=site.url)
    assert len(site.seen) == before


def test_wrong_parts(tmp_path):
    with pytest.raises(UsageError, match=r"unknown part 'trian' of COCO\. Did you mean 'train'"):
        download_coco(tmp_path, "2014", ["trian"])
    with pytest.raises(UsageError, match="unknown year '2015'"):
        download_coco(tmp_path, "2015")


def test_official_addresses():
    paths = {f"{COCO_URL}/{a.path}" for files in COCO_FILES.values() for a in files.values()}
    assert paths == {
        f"http://images.cocodataset.org/{p}{y}.zip"
        for y in ("2014", "2017")
        for p in ("zips/train", "zips/val", "annotations/annotations_trainval")
    }
