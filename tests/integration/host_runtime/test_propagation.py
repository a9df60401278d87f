"""What is mounted within a volume after a container has started, with real processes and mounts."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

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
