"""What is mounted within a volume after a container has started, with real processes and mounts."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kubecore.kubelet.runtime import mounting
from kubecore.kubelet.runtime import propagation as sharing
from kubecore.kubelet.runtime.cri.mounts import release
from kubecore.kubelet.runtime.host import HostRuntime
from kubecore.kubelet.runtime.interface import Mount, Propagation, RuntimeFailure
from tests.integration.host_runtime.conftest import Node, until

pytestmark = pytest.mark.root

WAIT = "until [ -e /no/such/go ]; do sleep 0.02; done; "


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A volume whose mounts the kernel tells others of, as on hosts with systemd; its folder `place` is for one."""
    volume = tmp_path / "shared"
    volume.mkdir()
    mount("-t", "tmpfs", "none", str(volume))
    try:
        mount("--make-shared", str(volume))
        (volume / "place").mkdir()
        yield volume
    finally:
        subprocess.run(["umount", "--recursive", "--lazy", str(volume)], check=True)


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


@pytest.mark.parametrize(
    ("propagation", "seen"), [("None", ""), ("HostToContainer", "made"), ("Bidirectional", "made")]
)
async def test_a_container_sees_what_the_host_mounts_later_if_it_asks_for_it(
    isolated: Node, shared: Path, propagation: Propagation, seen: str
) -> None:
    sandbox, _ = await isolated.sandbox(privileged=True)
    mounts = (Mount(shared, "/no/such", propagation=propagation),)
    log = isolated.root / "seen.log"
    script = f"touch /no/such/ready; {WAIT} ls /no/such/place"
    await isolated.start(sandbox, "/bin/sh", "-c", script, mounts=mounts, privileged=True, log_path=log)
    await until((shared / "ready").exists)
    mount("-t", "tmpfs", "none", str(shared / "place"))
    (shared / "place/made").touch()
    (shared / "go").touch()
    await isolated.end()
    assert "".join(line.split(" ", 3)[3] for line in log.read_text().splitlines()) == seen


@pytest.mark.parametrize(("propagation", "seen"), [("HostToContainer", []), ("Bidirectional", ["made"])])
@pytest.mark.parametrize("sub_path", ["", "within"])
async def test_the_host_and_other_containers_see_what_one_mounts_if_it_asks_for_that(
    isolated: Node, shared: Path, propagation: Propagation, seen: list[str], sub_path: str
) -> None:
    volume = shared / sub_path
    (volume / "place").mkdir(parents=True, exist_ok=True)
    sandbox, _ = await isolated.sandbox(privileged=True)
    mounts = (Mount(shared, "/no/such", sub_path=sub_path, propagation=propagation),)
    await isolated.start(
        sandbox,
        "/bin/sh",
        "-c",
        "mount -t tmpfs none /no/such/place && touch /no/such/place/made && touch /no/such/mounted; exec sleep 1000",
        mounts=mounts,
        privileged=True,
    )
    await until((volume / "mounted").exists)
    assert [one.name for one in (volume / "place").iterdir()] == seen
    said = await isolated.output(
        sandbox, f"ls /no/such/{sub_path}/place", name="other", mounts=(Mount(shared, "/no/such"),)
    )
    assert said == "".join(seen)


@pytest.mark.parametrize(
    ("propagation", "words"), [("HostToContainer", "shared or slave"), ("Bidirectional", "shared")]
)
async def test_a_volume_of_which_the_kernel_tells_nobody_cannot_be_shared(
    isolated: Node, shared: Path, propagation: Propagation, words: str
) -> None:
    mount("--make-private", str(shared))
    sandbox, _ = await isolated.sandbox(privileged=True)
    mounts = (Mount(shared, "/no/such", propagation=propagation),)
    with pytest.raises(RuntimeFailure, match=f'path "{shared}" is mounted on "{shared}" but it is not a {words} mount'):
        await isolated.start(sandbox, "/bin/sh", "-c", "true", mounts=mounts)


async def test_a_volume_is_judged_by_the_mount_that_holds_it_whatever_its_name_is(isolated: Node, shared: Path) -> None:
    inner = shared / "b\u00fccher \udcff"
    inner.mkdir()
    mount("-t", "tmpfs", "none", str(inner))
    mount("--make-private", str(inner))
    (shared / "link").symlink_to(inner)
    sandbox, _ = await isolated.sandbox(privileged=True)
    mounts = (Mount(shared / "link", "/no/such", propagation="Bidirectional"),)
    with pytest.raises(RuntimeFailure, match="but it is not a shared mount"):
        await isolated.start(sandbox, "/bin/sh", "-c", "true", mounts=mounts)


async def test_what_cannot_be_shared_is_named(tmp_path: Path) -> None:
    namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    try:
        with pytest.raises(OSError) as failed:
            await sharing.share(tmp_path / "gone", tmp_path, namespace)
    finally:
        os.close(namespace)
    assert failed.value.strerror == f"failed to share {tmp_path}/gone: No such file or directory"


def test_what_is_mounted_for_a_pod_is_released_whatever_its_name_is(tmp_path: Path) -> None:
    made = [tmp_path / name for name in ("plain", "b\u00fccher \udcff", "a \\ b\n\x85c")]
    for one in made:
        one.mkdir()
        mount("-t", "tmpfs", "none", str(one))
    try:
        release(tmp_path)
    finally:
        left = [one for one in made if one.is_mount()]
        for one in left:
            subprocess.run(["umount", str(one)], check=True)
    assert left == []


class Hung:
    """In the place of what asks the server of a `volume`, which does not answer until `go_on`."""

    def __init__(self, real: Callable[..., Any], volume: Path) -> None:
        self.real = real
        self.volume = volume
        self.asked = threading.Event()
        self.go_on = threading.Event()
        self.waited: list[bool] = []

    def __call__(self, asked: Path | Mount, *given: Any) -> Any:
        if self.volume == (asked.source if isinstance(asked, Mount) else asked):
            self.asked.set()
            self.waited.append(self.go_on.wait(60))
        return self.real(asked, *given)


@pytest.fixture(
    params=[(sharing, "_mount_of"), (sharing, "_share"), (mounting, "is_folder")], ids=lambda given: given[1]
)
def hung(isolated: Node, shared: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Hung:
    if not isinstance(isolated.runtime, HostRuntime):
        pytest.skip("another process does it")
    module, name = request.param
    found = Hung(getattr(module, name), shared)
    monkeypatch.setattr(module, name, found)
    return found


async def test_a_volume_whose_server_does_not_answer_holds_up_its_own_container_only(
    isolated: Node, shared: Path, hung: Hung
) -> None:
    sandbox, _ = await isolated.sandbox(privileged=True)
    mounts = (Mount(shared, "/no/such", propagation="Bidirectional"),)
    starting = asyncio.create_task(isolated.start(sandbox, "/bin/sh", "-c", "exec sleep 1000", mounts=mounts))
    await until(hung.asked.is_set)
    assert await isolated.output((await isolated.sandbox())[0], "echo others run", name="other") == "others run"
    hung.go_on.set()
    await starting
    assert all(hung.waited)


async def test_nothing_starts_in_a_sandbox_that_is_stopped_while_a_volume_does_not_answer(
    isolated: Node, shared: Path, hung: Hung
) -> None:
    sandbox, _ = await isolated.sandbox(privileged=True)
    mounts = (Mount(shared, "/no/such", propagation="Bidirectional"),)
    script = "touch /no/such/started"
    starting = asyncio.create_task(isolated.start(sandbox, "/bin/sh", "-c", script, mounts=mounts))
    await until(hung.asked.is_set)
    await isolated.runtime.stop_pod_sandbox(sandbox)
    hung.go_on.set()
    with pytest.raises(RuntimeFailure, match="sandbox"):
        await starting
    assert all(hung.waited)
    assert all(one.pid == 0 for one in isolated.runtime.list_containers(sandbox))
    await isolated.runtime.remove_pod_sandbox(sandbox)
    assert not (shared / "started").exists()
