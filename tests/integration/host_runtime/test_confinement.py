# ruff: noqa: ASYNC240
"""What containers of the host runtime are kept from, with real processes."""

from __future__ import annotations

import errno
import json
import os
import signal
import tempfile
from pathlib import Path

import pytest

from kubecore.kubelet.runtime import capabilities
from kubecore.kubelet.runtime.interface import (
    ContainerState,
    Identity,
    Mount,
    RuntimeFailure,
)
from tests.integration.host_runtime.conftest import Node, processes, settled, until
from tests.support.pod_processes import first_process_beside


async def test_root_has_the_capabilities_it_was_given_and_no_others(isolated: Node) -> None:
    sandbox, _ = await isolated.sandbox()
    given = capabilities.resulting(add=["SYS_TIME"], drop=["NET_RAW", "CAP_CHOWN"])
    held = await isolated.output(sandbox, "grep Cap[EB] /proc/self/status", capabilities=given)
    wanted = capabilities.mask(given & capabilities.of_this_process())
    assert {int(line.split()[1], 16) for line in held.splitlines()} == {wanted}


async def test_a_command_in_a_container_has_its_capabilities(isolated: Node) -> None:
    sandbox, _ = await isolated.sandbox()
    container = await isolated.start(sandbox, "sleep", "1000", capabilities=frozenset({"KILL"}))
    result = await isolated.runtime.exec_sync(container, ["grep", "CapEff", "/proc/self/status"], 60)
    assert int(result.stdout.split()[1], 16) == capabilities.mask(["KILL"])


async def test_the_default_profile_refuses_what_containers_have_no_use_for(isolated: Node) -> None:
    sandbox, _ = await isolated.sandbox()
    script = "unshare --uts true; unshare --uts true || grep Seccomp: /proc/self/status; echo well"
    said = await isolated.output(sandbox, script, seccomp="runtime-default", capabilities=capabilities.DEFAULT)
    assert said.count("unshare failed: Operation not permitted") == 2
    assert "Seccomp:\t2" in said
    assert "well" in said.splitlines()


async def test_a_container_without_a_profile_may_call_what_it_likes(isolated: Node) -> None:
    sandbox, _ = await isolated.sandbox()
    assert await isolated.output(sandbox, "grep Seccomp: /proc/self/status") == "Seccomp:\t0"


async def test_a_profile_of_the_node_says_what_becomes_of_calls(isolated: Node) -> None:
    profile = isolated.root / "profile.json"
    rules = [
        {"names": ["mkdir", "mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EXDEV},
        {"names": ["unlink", "unlinkat"], "action": "SCMP_ACT_KILL_PROCESS"},
    ]
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}))
    sandbox, _ = await isolated.sandbox()
    script = "mkdir /new; rm -f /none; echo ends with $?"
    said = await isolated.output(sandbox, script, seccomp=f"localhost/{profile}")
    assert os.strerror(errno.EXDEV) in said
    assert f"ends with {128 + signal.SIGSYS}" in said


async def test_a_profile_may_refuse_all_that_it_does_not_name_and_look_at_arguments(isolated: Node) -> None:
    usual = (
        "access arch_prctl brk capget capset chdir clone clone3 close dup2 dup3 execve exit exit_group faccessat2 "
        "fchdir fcntl fstat fstatfs futex getcwd getdents64 getegid geteuid getgid getpid getpgrp getppid "
        "getrandom getuid ioctl lseek mmap mprotect munmap newfstatat openat pipe2 poll pread64 prctl prlimit64 "
        "read rseq rt_sigaction rt_sigprocmask rt_sigreturn set_robust_list set_tid_address setgid setgroups "
        "setresgid setresuid setuid socket stat statx uname vfork wait4 write"
    )
    three_letters = {"index": 1, "value": 3, "op": "SCMP_CMP_EQ"}
    rules = [
        {"names": usual.split(), "action": "SCMP_ACT_ALLOW"},
        {"names": ["sethostname"], "action": "SCMP_ACT_ALLOW", "args": [three_letters]},
        # Allowed whatever its arguments are: this takes nothing away.
        {"names": ["write"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 77, "op": "SCMP_CMP_EQ"}]},
    ]
    profile = isolated.root / "profile.json"
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}))
    sandbox, _ = await isolated.sandbox()
    script = "hostname abc && echo changed; hostname abcd || echo refused; echo open: $(ls /proc/self/fd)"
    # What it does not allow is needed all the same to keep descriptors of the node out of the container.
    with (isolated.root / "profile.json").open() as kept:
        os.set_inheritable(kept.fileno(), True)
        said = await isolated.output(sandbox, script, seccomp=f"localhost/{profile}")
    assert [line for line in said.splitlines() if line in ("changed", "refused")] == ["changed", "refused"], said
    assert "open: 0 1 2 3" in said.splitlines(), said


@pytest.mark.usefixtures("own_launcher")
@pytest.mark.parametrize("no_new_privileges", [True, False])
@pytest.mark.parametrize("identity", [Identity(), Identity(1234, 1234, (77,))], ids=["own user", "other user"])
async def test_a_profile_need_not_allow_what_comes_before_the_program(
    isolated: Node, identity: Identity, no_new_privileges: bool
) -> None:
    if identity.user is not None and os.geteuid() != 0:
        pytest.skip("only root becomes another user")
    ours = (
        "capget capset poll prctl rt_sigaction rt_sigprocmask seccomp setgid setgroups setresgid setresuid setsid "
        "setuid umask unshare"
    )
    rules = [{"names": ours.split(), "action": "SCMP_ACT_KILL_PROCESS"}]
    profile = isolated.root / "profile.json"
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}))
    sandbox, _ = await isolated.sandbox()
    await isolated.start(
        sandbox,
        "true",
        seccomp=f"localhost/{profile}",
        identity=identity,
        no_new_privileges=no_new_privileges,
        capabilities=capabilities.DEFAULT,
    )
    assert (await isolated.end()).exit_code == 0


@pytest.mark.usefixtures("own_processes")
async def test_a_profile_that_cannot_be_read_fails_the_creation(isolated: Node) -> None:
    sandbox, _ = await isolated.sandbox()
    told = r"failed to load seccomp profile: open /.*/none.json: No such file"
    with pytest.raises(RuntimeFailure, match=told) as failed:
        await isolated.start(sandbox, "true", seccomp=f"localhost/{isolated.root}/none.json")
    assert failed.value.reason == "CreateContainerError"
    (isolated.root / "bad.json").write_text('{"defaultAction": "SCMP_ACT_WHAT"}')
    with pytest.raises(RuntimeFailure, match="action 'SCMP_ACT_WHAT' is not supported"):
        await isolated.start(sandbox, "true", seccomp=f"localhost/{isolated.root}/bad.json")


@pytest.mark.usefixtures("on_host")
async def test_a_read_only_root_leaves_volumes_and_devices_writable(isolated: Node) -> None:
    volume = isolated.root / "volume"
    volume.mkdir()
    kept = isolated.root / "kept"
    kept.mkdir()
    sandbox, _ = await isolated.sandbox()
    script = f"touch /made {kept}/made; touch /no/such/place/made && echo x > /dev/null && echo written"
    mounts = (Mount(volume, "/no/such/place"),)
    said = await isolated.output(sandbox, script, mounts=mounts, read_only_root=True)
    assert said.count("Read-only file system") == 2
    assert "written" in said.splitlines()
    assert (volume / "made").exists()


async def test_containers_of_a_pod_may_share_their_processes(isolated: Node) -> None:
    sandbox, _ = await isolated.sandbox(share_processes=True)
    marker = f"7{os.getpid()}{isolated.pods}"
    first = await isolated.start(sandbox, "sleep", marker, name="first")
    await until(lambda: processes(marker) != [])  # runc has told it to begin, and does not see that it has
    said = await isolated.output(sandbox, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '; echo; echo $$", name="second")
    assert f"sleep {marker}" in said
    assert said.splitlines()[-1] != "1"
    assert isolated.runtime.container_status(first).state is ContainerState.RUNNING
    await isolated.runtime.stop_pod_sandbox(sandbox)
    assert processes(marker) == []


async def test_the_end_of_a_container_ends_all_of_it_though_processes_are_shared(isolated: Node) -> None:
    sandbox, _ = await isolated.sandbox(share_processes=True)
    marker = f"6{os.getpid()}{isolated.pods}"
    await isolated.start(sandbox, "sh", "-c", f"setsid sleep {marker} & sleep 0.01")
    await isolated.end()
    assert await settled(lambda: processes(marker) == [])


@pytest.mark.parametrize("privileged", [False, True])
@pytest.mark.parametrize("shared", [False, True])
async def test_a_pod_sees_the_hosts_processes_and_shared_memory_if_it_asks_for_them(
    isolated: Node, shared: bool, privileged: bool
) -> None:
    sandbox, _ = await isolated.sandbox(host_pid=shared, host_ipc=shared, privileged=privileged)
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as there:
        look = f"ls -d /proc/{os.getpid()} {there.name} 2> /dev/null; echo that is all"
        said = await isolated.output(sandbox, look, privileged=privileged)
        found = [f"/proc/{os.getpid()}", there.name] if shared else []
        assert sorted(said.splitlines()) == sorted([*found, "that is all"])
        left = Path(f"{there.name}-written")
        write = f"echo x > {left}; ls /dev/shm"
        own = await isolated.output(sandbox, write, privileged=privileged, attempt=1)
        assert left.name in own.split()
        assert left.exists() == shared
        left.unlink(missing_ok=True)


async def test_a_pod_whose_first_process_is_killed_does_not_run_any_more(isolated: Node) -> None:
    """Nothing can be started in a pid namespace without it."""
    sandbox, _ = await isolated.sandbox(share_processes=True)
    container = await isolated.start(sandbox, "sleep", "1000")
    assert isolated.runtime.pod_sandbox_status(sandbox).running
    os.kill(first_process_beside(isolated.runtime.container_status(container).pid), signal.SIGKILL)
    assert (await isolated.end()).exit_code == 137
    assert await settled(lambda: not isolated.runtime.pod_sandbox_status(sandbox).running)
    await isolated.runtime.remove_pod_sandbox(sandbox)
    assert isolated.runtime.list_containers() == []


async def test_sysctls_are_set_for_the_pod_alone_or_said_to_be_out_of_reach(isolated: Node) -> None:
    wanted = (("kernel.shm_rmid_forced", "1"), ("net.ipv4.ip_unprivileged_port_start", "77"))
    status = await isolated.run_sandbox(sysctls=wanted)
    script = "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_unprivileged_port_start"
    said = (await isolated.output(status.id, script)).split()
    here = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text().strip()
    own_network = isolated.network.mode == "netns"
    assert said == ["1", "77" if own_network else here]
    assert here != "77"
    assert any("ip_unprivileged_port_start" in note for note in status.notes) != own_network


# --- paths within volumes


async def test_a_path_within_a_volume_is_mounted_and_made_if_it_is_missing(isolated: Node) -> None:
    volume = isolated.root / "volume"
    (volume / "there").mkdir(parents=True)
    (volume / "there/file").write_text("content")
    (volume / "link").symlink_to("there")
    sandbox, _ = await isolated.sandbox()
    mounts = (
        Mount(volume, "/no/such/link", sub_path="link"),
        Mount(volume, "/no/such/file", sub_path="there/file"),
        Mount(volume, "/no/such/new", sub_path="new/deeper"),
    )
    script = "cat /no/such/link/file /no/such/file; touch /no/such/new/made"
    assert await isolated.output(sandbox, script, mounts=mounts) == "contentcontent"
    assert (volume / "new/deeper/made").exists()


@pytest.mark.parametrize("target", ["/etc", "../outside", "/proc/self/root/etc"])
async def test_a_link_in_a_volume_does_not_lead_a_mount_out_of_it(isolated: Node, target: str) -> None:
    volume, outside = isolated.root / "volume", isolated.root / "outside"
    volume.mkdir()
    outside.mkdir()
    (volume / "link").symlink_to(target)
    sandbox, _ = await isolated.sandbox()
    with pytest.raises(RuntimeFailure, match="failed to mount subPath"):
        await isolated.start(sandbox, "true", mounts=(Mount(volume, "/no/such/place", sub_path="link/sub"),))
    assert list(outside.iterdir()) == []


async def test_what_is_read_only_below_is_so_with_the_mounts_in_it(isolated: Node) -> None:
    outer, inner = isolated.root / "outer", isolated.root / "inner"
    (outer / "place").mkdir(parents=True)
    inner.mkdir()
    sandbox, _ = await isolated.sandbox()
    mounts = (Mount(outer, "/no/such", read_only=True, read_only_below=True), Mount(inner, "/no/such/place"))
    assert "Read-only" in await isolated.output(sandbox, "touch /no/such/place/made", mounts=mounts)


@pytest.mark.usefixtures("on_host")
async def test_the_terminal_of_a_container_has_a_name_in_it(isolated: Node) -> None:
    sandbox, _ = await isolated.sandbox()
    assert await isolated.output(sandbox, "tty", tty=True) == "/dev/console"


async def test_groups_that_a_user_namespace_cannot_give_are_told(isolated: Node) -> None:
    status = await isolated.run_sandbox(supplemental_groups=(2000, 3000))
    text = "processes do not have the supplemental groups 2000, 3000: without root none can be given to them"
    told = isolated.isolation.user_namespace
    assert status.notes == ((text,) if told else ())
