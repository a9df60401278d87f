"""crun in runc's place: another program with the same command line."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kubecore.kubelet.networks.network import LoopbackNetwork
from kubecore.kubelet.runtime.interface import ContainerState, RuntimeFailure
from kubecore.kubelet.runtime.oci_programs.runtime import ProgramRuntime
from tests.integration.host_runtime.conftest import Node, make_program_node, processes, until
from tests.support.own_ranges import own_pod_range

pytestmark = pytest.mark.root
_UNIFIED = Path("/sys/fs/cgroup/unified")
# It refuses to run where the kernel has controllers in both versions of control groups: one of them is out of sight.
_ONE_VERSION = f"""#!/bin/sh
exec unshare --mount --propagation private /bin/sh -c 'umount {_UNIFIED} && exec crun "$@"' sh "$@"
"""


@pytest.fixture
async def node(tmp_path: Path, programs_image: Path) -> AsyncIterator[Node]:
    program = "crun"
    if (_UNIFIED / "cgroup.controllers").exists() and (_UNIFIED / "cgroup.controllers").read_text().strip():
        script = tmp_path / "crun-with-one-version"
        script.write_text(_ONE_VERSION)
        script.chmod(0o755)
        program = str(script)
    network = LoopbackNetwork(own_pod_range())
    root = tmp_path / "node"
    root.mkdir()
    node = await make_program_node(root, network, programs_image, "programs", handler="crun", program=program)
    yield node
    await node.runtime.close()
    assert isinstance(node.runtime, ProgramRuntime)
    await node.runtime.monitor.close()
    network.close()


async def test_a_container_is_logged_entered_and_stopped(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    log = node.root / "main.log"
    script = "trap 'echo ends >&2; exit 7' TERM; echo begins; while :; do sleep 0.1; done"
    container = await node.start(sandbox, "/bin/sh", "-c", script, log_path=log, environment=(("GIVEN", "value"),))
    await until(lambda: b" stdout F begins" in log.read_bytes())
    inside = await node.runtime.exec_sync(container, ["/bin/sh", "-c", "echo $GIVEN; exit 3"], 60)
    assert (inside.stdout, inside.exit_code) == (b"value\n", 3)
    await node.runtime.stop_container(container, 60)
    status = await node.end()
    assert (status.state, status.exit_code, status.signal) == (ContainerState.EXITED, 7, 0)
    assert b" stderr F ends" in log.read_bytes()


async def test_a_program_that_does_not_exist_is_named(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    with pytest.raises(RuntimeFailure, match="no-such-program"):
        await node.start(sandbox, "no-such-program")


async def test_nothing_is_left_of_a_removed_pod(node: Node) -> None:
    marker = f"7{os.getpid()}"
    sandbox, _ = await node.sandbox()
    await node.start(sandbox, "sleep", marker)
    await until(lambda: processes(marker) != [])
    await node.runtime.remove_pod_sandbox(sandbox)
    assert processes(marker) == []
    assert node.mounts() == []
