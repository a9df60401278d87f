"""Where the kernel says that things are mounted, and paths that lead nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kubecore.kubelet.runtime.system_calls import BENEATH, IN_ROOT, NO_MAGIC_LINKS, mount_places, open_within


@pytest.mark.parametrize(
    ("written", "path"),
    [
        (b"/mnt", b"/mnt"),
        ("/b\u00fccher".encode(), "/b\u00fccher".encode()),
        (b"/not\xff/utf-8", b"/not\xff/utf-8"),
        (rb"/a\040b\011c\012d\134e", b"/a b\tc\nd\\e"),
        (rb"/a\134040b\134n", rb"/a\040b\n"),
        ("/a\rb\x0bc\x85d\u2028e".encode(), "/a\rb\x0bc\x85d\u2028e".encode()),
    ],
)
def test_a_path_is_what_its_mount_was_made_at(written: bytes, path: bytes) -> None:
    line = b"36 35 98:0 /mnt1 %s rw,noatime shared:1 master:2 - ext3 /dev/root rw,errors=continue\n"
    first, second = mount_places(line % written + line % b"/second")
    assert first == (Path(os.fsdecode(path)), ("shared:1", "master:2"))
    assert second.path == Path("/second")


def test_a_mount_that_takes_part_in_nothing_has_no_marks() -> None:
    ((_, propagation),) = mount_places(b"36 35 98:0 / /private rw - tmpfs none rw\n")
    assert propagation == ()


def test_the_kernel_tells_where_this_process_has_mounts() -> None:
    assert Path("/proc") in {one.path for one in mount_places()}


@pytest.mark.parametrize(
    ("limits", "path", "told"),
    [
        (BENEATH, "file", None),
        (BENEATH, "../file", "Invalid cross-device link"),
        (BENEATH, "absolute", "Invalid cross-device link"),
        (IN_ROOT, "../../file", None),
        (IN_ROOT, "absolute", None),
        (NO_MAGIC_LINKS, "/proc/self/exe", "Too many levels of symbolic links"),
    ],
)
def test_a_path_leads_nowhere_but_where_it_may(tmp_path: Path, limits: int, path: str, told: str | None) -> None:
    (tmp_path / "file").write_text("own")
    (tmp_path / "absolute").symlink_to("/file")
    folder = os.open(tmp_path, os.O_PATH)
    try:
        if told is None:
            with os.fdopen(open_within(folder, path, os.O_RDONLY, limits=limits)) as file:
                assert file.read() == "own"
                assert not os.get_inheritable(file.fileno())
        else:
            with pytest.raises(OSError, match=told) as failed:
                open_within(folder, path, os.O_RDONLY, limits=limits)
            assert failed.value.filename == path
    finally:
        os.close(folder)
