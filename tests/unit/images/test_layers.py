"""Layers, unpacked and looked at."""

from __future__ import annotations

import gzip
import io
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kubecore.images.digests import WrongDigest
from kubecore.images.layers import BadLayer, unpack
from kubecore.images.view import ImageView, LinkLoop
from tests.support.small_image import Layer, digest

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for devices and owners")


def unpacked(folder: Path, entries: dict[str, bytes | str | None], **fields: dict[str, int]) -> Path:
    folder.mkdir(parents=True)
    unpack(io.BytesIO(Layer(entries, **fields).tar()), folder, as_root=os.geteuid() == 0)
    return folder


def test_files_folders_and_links_are_as_in_the_layer(tmp_path: Path) -> None:
    entries = {"etc": None, "etc/a": b"one", "etc/b": "->a", "etc/c": "=>etc/a", "deep/er/file": b"two"}
    layer = unpacked(tmp_path / "l", entries, modes={"etc/a": 0o640, "etc": 0o750})
    assert (layer / "etc/b").read_bytes() == (layer / "etc/c").read_bytes() == b"one"
    assert (layer / "etc/c").stat().st_ino == (layer / "etc/a").stat().st_ino
    assert stat.S_IMODE((layer / "etc/a").stat().st_mode) & 0o640 == 0o640
    assert (layer / "deep/er/file").read_bytes() == b"two"


@pytest.mark.parametrize("compress", [gzip.compress, zstd.compress])
def test_a_compressed_layer_has_the_digest_of_what_is_in_it(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    tar = Layer({"file": b"x" * 100_000}).tar()
    (tmp_path / "l").mkdir()
    assert unpack(io.BytesIO(compress(tar)), tmp_path / "l", diff_id=digest(tar)) == digest(tar)
    assert (tmp_path / "l/file").read_bytes() == b"x" * 100_000
    (tmp_path / "m").mkdir()
    with pytest.raises(WrongDigest, match="unexpected digest"):
        unpack(io.BytesIO(tar), tmp_path / "m", diff_id=digest(b"other"))


@pytest.mark.parametrize("compress", [gzip.compress, zstd.compress])
def test_a_broken_compressed_layer_is_told_as_such(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    whole = compress(Layer({"file": os.urandom(100_000)}).tar())
    middle = len(whole) // 2
    for number, broken in enumerate([whole[:middle], whole[:middle] + bytes(1000) + whole[middle + 1000 :]]):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises((BadLayer, WrongDigest)):
            unpack(io.BytesIO(broken), folder, diff_id=digest(b"the whole"))


@pytest.mark.parametrize(
    "entries",
    [
        {"../outside": b"x"},
        {"a/../../outside": b"x"},
        {"link": "->/", "link/outside": b"x"},
        {"link": "->..", "link/outside": b"x"},
        {"link": "->../../..", "hard": "=>link/../outside"},
        {"/outside": b"x"},
    ],
)
def test_nothing_is_written_outside_of_the_folder(tmp_path: Path, entries: dict[str, bytes | str | None]) -> None:
    folder = tmp_path / "deep" / "layer"
    try:
        unpacked(folder, entries)
    except (BadLayer, OSError):
        pass
    assert [one.name for one in tmp_path.iterdir()] == ["deep"]
    assert [one.name for one in (tmp_path / "deep").iterdir()] == ["layer"]
    assert not Path("/outside").exists()


def test_a_later_entry_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    layer = unpacked(tmp_path / "l", {"a/b": b"x", "a": b"file now", "c": "->/etc/passwd"})
    assert (layer / "a").read_bytes() == b"file now"
    other = unpacked(tmp_path / "m", {"c": "->/etc/passwd", "d": b"1", "c/e": b"inside"})
    assert (other / "etc/passwd/e").read_bytes() == b"inside"


@pytest.mark.parametrize("data", [b"no tar file at all", b"\x28\xb5\x2f\xfdxx", b"\x1f\x8bxx"])
def test_what_is_no_layer_is_told(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(BadLayer):
        unpack(io.BytesIO(data), tmp_path)


@root_only
def test_owners_are_kept(tmp_path: Path) -> None:
    layer = unpacked(tmp_path / "l", {"file": b"x", "link": "->file"}, owners={"file": 1234, "link": 4321})
    assert ((layer / "file").stat().st_uid, (layer / "link").lstat().st_gid) == (1234, 4321)


# --- looking through layers


def test_the_uppermost_layer_counts_and_a_whiteout_hides_what_is_below(tmp_path: Path) -> None:
    lower = unpacked(tmp_path / "1", {"etc/a": b"old", "etc/b": b"gone", "etc/c": b"kept", "all/x": b"hidden"})
    upper = unpacked(tmp_path / "2", {"etc/a": b"new", "etc/.wh.b": b"", "all": None, "all/.wh..wh..opq": b""})
    view = ImageView([upper, lower])
    assert [view.read(f"/etc/{name}") for name in "abc"] == [b"new", None, b"kept"]
    assert view.read("/all/x") is None
    assert (view.is_folder("/all"), view.is_folder("/etc/a"), view.is_folder("/no")) == (True, False, None)


def test_links_are_followed_as_if_the_image_were_the_root(tmp_path: Path) -> None:
    layer = unpacked(
        tmp_path / "1",
        {"run/x": b"found", "var/run": "->/run", "up": "->../../../run", "loop": "->loop", "to": "->var/run/new"},
    )
    view = ImageView([layer])
    assert view.resolve("/var/run/x") == view.resolve("/up/x") == "/run/x"
    assert view.resolve("/to/file") == "/run/new/file"
    assert view.read("/var/run/x") == b"found"
    with pytest.raises(LinkLoop):
        view.resolve("/loop")
