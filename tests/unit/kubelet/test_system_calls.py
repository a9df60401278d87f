"""Where the kernel says that things are mounted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kubecore.kubelet.runtime.system_calls import mount_places


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
