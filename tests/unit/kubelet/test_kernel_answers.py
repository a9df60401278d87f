"""What the kernel lets a runtime's program do is asked until it is known."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

import pytest

from kubecore.kubelet.runtime import launching
from kubecore.kubelet.runtime.launching import Launch, Namespaces, Process
from kubecore.kubelet.runtime.oci_programs.probing import Answer, can_mount_proc


class Kernel:
    """`refusals`: of namespaces, then of the mount."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, namespaces: int = 0, mount: int = 0) -> None:
        self.namespaces, self.mount = namespaces, mount
        monkeypatch.setattr(launching, "create_namespaces", self._create)
        monkeypatch.setattr(Launch, "start", lambda _: self._start())

    def _create(self, namespaces: int) -> Namespaces:
        if self.namespaces:
            raise OSError(self.namespaces, "failed to make namespaces")
        return Namespaces(user=os.open("/proc/self/ns/user", os.O_RDONLY | os.O_CLOEXEC))

    def _start(self) -> Process:
        if self.mount:
            raise OSError(self.mount, "failed to mount proc at /proc")
        pid = os.posix_spawnp("true", ["true"], {"PATH": os.defpath})
        return Process(pid, os.pidfd_open(pid))


def namespaces_and_processes() -> list[str]:
    """That this process has open. Of its other descriptors some may be closed meanwhile, of what tests before this one
    have left."""
    found = []
    for one in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(str(one.readlink()))
    return sorted(one for one in found if one.startswith("user:") or "pidfd" in one)


def test_a_proc_that_can_be_mounted_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    Kernel(monkeypatch)
    assert can_mount_proc() is True


def test_a_proc_that_may_not_be_mounted_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    Kernel(monkeypatch, mount=errno.EPERM)
    assert can_mount_proc() is False


@pytest.mark.parametrize("lack", [errno.ENOSPC, errno.EAGAIN, errno.ENOMEM])
@pytest.mark.parametrize("at", ["namespaces", "mount"])
def test_what_could_not_be_tried_is_none_and_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch, at: str, lack: int
) -> None:
    Kernel(monkeypatch, **{at: lack})
    before = namespaces_and_processes()
    assert can_mount_proc() is None
    assert namespaces_and_processes() == before


@pytest.mark.parametrize("known", [False, True])
def test_nobody_is_asked_again_once_it_is_known(known: bool) -> None:
    told: list[bool | None] = [None, None, known]
    answer = Answer(lambda: told.pop(0))
    assert [answer.yes() for _ in range(5)] == [False, False, known, known, known]
