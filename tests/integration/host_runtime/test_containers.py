# ruff: noqa: ASYNC220, ASYNC240, PTH208
"""Lives, ends and surroundings of the host runtime's containers, with real processes."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from kubecore.kubelet.runtime import leftovers
from kubecore.kubelet.runtime.cri.runtime import CriRuntime
from kubecore.kubelet.runtime.interface import (
    ContainerState,
    Identity,
    MemoryDirectory,
    Mount,
    RuntimeFailure,
    SandboxConfig,
)
from kubecore.kubelet.runtime.oci_programs.runtime import ProgramRuntime
from tests.integration.host_runtime.conftest import Node, node_mark, open_descriptors, processes, settled, until

# --- lives and ends


async def test_a_process_that_ends_reports_its_exit_code(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    container = await node.start(sandbox, "/bin/sh", "-c", "exit 7")
    status = await node.end()
    assert (status.id, status.state, status.exit_code, status.signal) == (container, ContainerState.EXITED, 7, 0)


async def test_output_is_logged_line_by_line_with_its_stream_before_the_end_is_told(node: Node, tmp_path: Path) -> None:
    sandbox, _ = await node.sandbox()
    await node.start(sandbox, "sh", "-c", "echo out; echo err >&2; printf unfinished", log_path=tmp_path / "a.log")
    await node.end()
    lines = [line.split(" ", 1)[1] for line in (tmp_path / "a.log").read_text().splitlines()]
    # What has no newline is a part, even at the end, as containerd has it.
    assert sorted(lines) == ["stderr F err", "stdout F out", "stdout P unfinished"]


async def test_a_killed_process_reports_the_signal(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    container = await node.start(sandbox, "sleep", "1000")
    await node.runtime.stop_container(container, 0)
    status = await node.end()
    assert (status.exit_code, status.signal) == (137, 9)


async def test_a_stop_that_was_given_up_does_not_keep_a_later_one_from_killing(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    log = node.root / "deaf.log"
    container = await node.start(sandbox, "sh", "-c", "trap '' TERM; echo ready; sleep 1000", log_path=log)
    await until(lambda: b"ready" in log.read_bytes())
    first = asyncio.create_task(node.runtime.stop_container(container, 1000))
    await asyncio.wait([first], timeout=0.05)
    first.cancel()
    await asyncio.wait([first])
    await node.runtime.stop_container(container, 0.1)
    assert (await node.end()).signal == 9


async def test_a_process_that_handles_sigterm_ends_in_its_own_way(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    log = node.root / "term.log"
    container = await node.start(
        sandbox, "sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.02; done", log_path=log
    )
    await until(lambda: b"ready" in log.read_bytes())
    await node.runtime.stop_container(container, 60)
    assert (await node.end()).exit_code == 3


async def test_a_process_that_ignores_sigterm_is_killed_after_its_grace(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    log = node.root / "term.log"
    script = "trap '' TERM; echo ready; while :; do sleep 1; done"
    container = await node.start(sandbox, "sh", "-c", script, log_path=log)
    await until(lambda: b"ready" in log.read_bytes())
    await node.runtime.stop_container(container, 0.2)
    assert (await node.end()).signal == 9


async def test_stopping_the_sandbox_leaves_no_process(isolated: Node) -> None:
    sandbox, _ = await isolated.sandbox()
    marker = f"9{os.getpid()}{isolated.pods}"
    await isolated.start(sandbox, "sh", "-c", f"setsid sleep {marker} & setsid sleep {marker} & sleep {marker}")
    await until(lambda: len(processes(marker)) >= 3)
    await isolated.runtime.stop_pod_sandbox(sandbox)
    assert await settled(lambda: processes(marker) == [])


async def test_nothing_of_a_pod_outlives_it_where_no_pid_namespace_ends_it(node: Node) -> None:
    sandbox, _ = await node.sandbox(host_pid=True)
    marker = f"8{os.getpid()}{node.pods}"
    script = f"trap '' HUP; setsid sleep {marker} & (setsid sleep {marker} &); sleep {marker} & exec sleep {marker}"
    await node.start(sandbox, "sh", "-c", script)
    await until(lambda: len(processes(marker)) >= 4)
    await node.runtime.stop_pod_sandbox(sandbox)
    if isinstance(node.runtime, CriRuntime):  # a container runtime kills them, and does not wait for the last one
        await until(lambda: processes(marker) == [])
    assert processes(marker) == []


@pytest.mark.usefixtures("own_processes")
async def test_the_next_start_ends_what_a_killed_run_of_the_node_left_and_nothing_else(node: Node) -> None:
    marks = [leftovers.container_mark(owner, "f" * 64) for owner in (node_mark(), "another-node")]
    ours, others = (
        subprocess.Popen(["sleep", "1000"], env={leftovers.VARIABLE: mark, "A": "b"}, start_new_session=True)
        for mark in marks
    )
    try:
        # Their environment can be read a moment after they are told to have been started.
        await until(lambda: has_in_environment(ours, marks[0]) and has_in_environment(others, marks[1]))
        await node.begin()
        assert ours.wait(timeout=60) == -9
        assert others.poll() is None
    finally:
        others.kill()
        others.wait()


def has_in_environment(process: subprocess.Popen[bytes], mark: str) -> bool:
    return mark.encode() in leftovers.environment(Path(f"/proc/{process.pid}"))


async def test_a_pod_says_what_it_lacks_where_there_are_no_namespaces(node: Node) -> None:
    sandbox = await node.runtime.run_pod_sandbox(
        SandboxConfig(uid=f"u-{os.getpid()}", name="p", namespace="n", attempt=0, hostname="p", directory=node.root)
    )
    if node.isolation.namespaces:
        assert sandbox.notes == ()
    else:
        assert "volumes are not mounted" in sandbox.notes[0]


async def test_volumes_that_cannot_be_mounted_are_named_by_the_environment(node: Node) -> None:
    if node.isolation.namespaces:
        pytest.skip("volumes are mounted here")
    sandbox, _ = await node.sandbox()
    said = await node.output(sandbox, "echo $KUBECORE_VOLUME_ETC_MY_APP", mounts=(Mount(node.root, "/etc/my-app"),))
    assert said == str(node.root)


async def test_a_program_that_does_not_exist_is_named(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    with pytest.raises(
        RuntimeFailure, match=r'exec: "no-such-program": executable file not found in \$PATH'
    ) as failure:
        await node.start(sandbox, "no-such-program")
    assert failure.value.reason == "RunContainerError"
    assert node.runtime.list_containers(sandbox)[0].exit_code == 128


async def test_a_container_without_command_is_refused(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    with pytest.raises(RuntimeFailure, match="no command specified") as failure:
        await node.start(sandbox)
    assert failure.value.reason == "CreateContainerError"


# --- what it sees


async def test_it_is_first_in_a_pid_namespace_of_its_own(isolated: Node) -> None:
    sandbox, _ = await isolated.sandbox()
    assert await isolated.output(sandbox, "echo $$; ls -d /proc/[0-9]* | head -1") == "1\n/proc/1"


async def test_it_has_the_pods_host_name_and_hosts_file(isolated: Node) -> None:
    sandbox, _ = await isolated.sandbox()
    told = "hostname; cat /etc/hostname; grep -c from-the-pod /etc/hosts; echo $HOSTNAME"
    assert await isolated.output(sandbox, told) == "pod1\npod1\n1\npod1"


@pytest.mark.usefixtures("on_host")
async def test_volumes_appear_where_nothing_is_on_the_host(isolated: Node) -> None:
    sandbox, _ = await isolated.sandbox()
    volume = isolated.root / "volume"
    volume.mkdir()
    (volume / "file").write_text("content")
    (isolated.root / "single").write_text("one file")
    targets = ["/no-such-folder-on-the-host", "/usr/share/no-such/folder", "/var/run/secrets/kubernetes.io/x"]
    mounts = (
        *(Mount(volume, target) for target in targets),
        Mount(isolated.root / "single", "/no-such-folder-on-the-host/inner/single"),
        Mount(isolated.root / "single", "/etc/no-such.conf", read_only=True),
    )
    script = f"for t in {' '.join(targets)}; do cat $t/file; echo; done; cat /etc/no-such.conf; ls /usr/share | wc -l"
    said = await isolated.output(sandbox, script + "; cat /no-such-folder-on-the-host/inner/single", mounts=mounts)
    entries = len(os.listdir("/usr/share")) + 1
    assert said.split("\n")[:3] == ["content"] * 3
    assert said.split("\n")[3:] == [f"one file{entries}", "one file"]
    assert not Path("/no-such-folder-on-the-host").exists()
    assert not Path("/usr/share/no-such").exists()


async def test_a_read_only_volume_cannot_be_written(isolated: Node) -> None:
    sandbox, _ = await isolated.sandbox()
    (isolated.root / "volume").mkdir()
    mounts = (Mount(isolated.root / "volume", "/data", read_only=True),)
    said = await isolated.output(sandbox, "touch /data/x 2>&1 || echo refused", mounts=mounts)
    assert "Read-only file system" in said and said.endswith("refused")


@pytest.mark.usefixtures("on_host")
async def test_a_volume_may_cover_where_the_node_keeps_its_files(isolated: Node) -> None:
    """As an emptyDir at /tmp does where the data directory is below that: what is mounted after it is there, too."""
    over, later = isolated.root / "over", isolated.root / "later"
    for folder in (over, later):
        folder.mkdir()
        (folder / folder.name).touch()
    sandbox, _ = await isolated.sandbox()
    mounts = (Mount(over, str(isolated.root)), Mount(later, "/var"))
    assert await isolated.output(sandbox, f"ls {isolated.root}; ls /var", mounts=mounts) == "over\nlater"


@pytest.mark.usefixtures("on_host")
async def test_a_node_may_keep_its_files_in_memory(isolated: Node) -> None:
    """Below /dev, of which containers have their own."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        isolated.root = Path(folder)
        sandbox, _ = await isolated.sandbox()
        ended = isolated.root / "ended"
        ended.touch()
        mounts = (Mount(ended, "/dev/termination-log"),)
        assert await isolated.output(sandbox, "echo done > /dev/termination-log; echo said", mounts=mounts) == "said"
        assert ended.read_text() == "done\n"
        await isolated.runtime.remove_pod_sandbox(sandbox)


async def test_containers_of_a_pod_share_memory_volumes_that_the_host_never_sees(isolated: Node) -> None:
    memory = isolated.root / "memory"
    memory.mkdir()
    sandbox, _ = await isolated.sandbox(memory_directories=(MemoryDirectory(memory, 1 << 20),))
    mounts = (Mount(memory, "/cache"),)
    await isolated.output(sandbox, "echo shared > /cache/file; echo mail > /dev/shm/box", mounts=mounts)
    said = await isolated.output(sandbox, "cat /cache/file /dev/shm/box; stat -f -c %T /cache", mounts=mounts)
    assert said == "shared\nmail\ntmpfs"
    if not isinstance(isolated.runtime, CriRuntime):  # whom the kubelet can name but a folder of the host
        assert list(memory.iterdir()) == []


async def test_a_memory_volume_is_the_pods_group_s_where_groups_can_be_had(isolated: Node) -> None:
    memory = isolated.root / "memory"
    memory.mkdir()
    sandbox, _ = await isolated.sandbox(memory_directories=(MemoryDirectory(memory, 1 << 20, 0o2777, 3000),))
    said = await isolated.output(sandbox, "stat -c '%a %g' /cache", mounts=(Mount(memory, "/cache"),))
    assert said == ("2777 0" if isolated.isolation.user_namespace else "2777 3000")


async def test_it_may_run_as_another_user(isolated: Node) -> None:
    sandbox, _ = await isolated.sandbox()
    if isinstance(isolated.runtime, ProgramRuntime) and isolated.isolation.user_namespace:
        with pytest.raises(RuntimeFailure, match="without root a container has only user 0"):
            await isolated.start(sandbox, "true", identity=Identity(user=1234, group=1235))
        return
    said = await isolated.output(sandbox, "id -u; id -g", identity=Identity(user=1234, group=1235))
    assert said == "1234\n1235"


async def test_it_finds_the_home_of_its_user_unless_it_is_told_another(isolated: Node) -> None:
    sandbox, _ = await isolated.sandbox()
    script = "cat /etc/passwd 2> /dev/null; echo; echo $HOME"
    *users, home = (await isolated.output(sandbox, script, identity=Identity(user=0))).splitlines()
    assert home == next((line.split(":")[5] for line in users if ":x:0:" in line), "/")
    if not (isinstance(isolated.runtime, ProgramRuntime) and isolated.isolation.user_namespace):
        assert await isolated.output(sandbox, "echo $HOME", identity=Identity(user=12345)) == "/"
    assert await isolated.output(sandbox, "echo $HOME", environment=(("HOME", "/mine"),)) == "/mine"


async def test_it_is_told_who_it_runs_as(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    who = [Identity()]
    if node.isolation.namespaces and not node.isolation.user_namespace:
        who.append(Identity(1234, 1235, (77, 1235)))
    for identity in who:
        said = await node.output(sandbox, "id -u; id -g; id -G", identity=identity)
        user = node.runtime.list_containers()[-1].user
        if isinstance(node.runtime, CriRuntime) and not await node.runtime.knows_strict_groups():
            assert user is None
            continue
        assert user is not None
        uid, gid, groups = said.splitlines()
        assert (user.uid, user.gid, {*user.groups}) == (int(uid), int(gid), {int(one) for one in groups.split()})


async def test_it_has_devices_and_a_termination_log(isolated: Node) -> None:
    sandbox, _ = await isolated.sandbox()
    (isolated.root / "message").touch()
    mounts = (Mount(isolated.root / "message", "/dev/termination-log"),)
    said = await isolated.output(sandbox, "echo x > /dev/null; echo bye > /dev/termination-log; ls /dev", mounts=mounts)
    assert "urandom" in said and "vda" not in said
    assert (isolated.root / "message").read_text() == "bye\n"


async def test_the_working_directory_is_made(isolated: Node) -> None:
    sandbox, _ = await isolated.sandbox()
    assert await isolated.output(sandbox, "pwd", working_directory="/no-such/work") == "/no-such/work"


@pytest.mark.usefixtures("on_host")
async def test_pods_reach_each_other_and_the_host_reaches_them(node: Node) -> None:
    server, address = await node.sandbox()
    client, _ = await node.sandbox()
    log = node.root / "server.log"
    program = (
        "import socket, sys; s = socket.create_server((sys.argv[1], 8099)); print('ready', flush=True)\n"
        "while True:\n c, _ = s.accept(); c.sendall(b'hello'); c.close()"
    )
    await node.start(server, "python3", "-c", program, address, log_path=log)
    await until(lambda: b"ready" in log.read_bytes())
    with socket.create_connection((address, 8099), timeout=60) as connection:
        assert connection.recv(10) == b"hello"
    fetch = f"import socket; print(socket.create_connection(('{address}', 8099), 60).recv(10))"
    assert await node.output(client, f'python3 -c "{fetch}"') == "b'hello'"


# --- commands inside


async def test_a_command_runs_within_the_container(isolated: Node) -> None:
    sandbox, _ = await isolated.sandbox()
    (isolated.root / "volume").mkdir()
    (isolated.root / "volume/file").write_text("inside")
    mounts = (Mount(isolated.root / "volume", "/data"),)
    container = await isolated.start(sandbox, "sleep", "1000", mounts=mounts, environment=(("A", "b"),))
    result = await isolated.runtime.exec_sync(
        container, ["sh", "-c", "cat /data/file; hostname >&2; echo $A; test -d /proc/1 && exit 4"], 60
    )
    assert (result.stdout, result.stderr, result.exit_code) == (b"insideb\n", b"pod1\n", 4)


async def test_a_command_that_takes_too_long_is_killed(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    container = await node.start(sandbox, "sleep", "1000")
    marker = f"7{os.getpid()}"
    with pytest.raises(TimeoutError):
        await node.runtime.exec_sync(container, ["sleep", marker], 0.05)
    assert await settled(lambda: processes(marker) == [])


# --- nothing stays


async def test_nothing_is_left_after_the_pods_are_removed(node: Node) -> None:
    await node.begin()
    mounts_before = node.mounts()
    descriptors_before = open_descriptors()
    for _ in range(3):
        sandbox, _ = await node.sandbox()
        await node.start(sandbox, "sleep", "1000")
        await node.runtime.remove_pod_sandbox(sandbox)
        await node.end()
    assert node.runtime.list_containers() == []
    assert await settled(lambda: node.mounts() == mounts_before)
    assert await settled(lambda: open_descriptors() == descriptors_before)
