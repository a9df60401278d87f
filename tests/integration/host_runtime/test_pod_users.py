# ruff: noqa: ASYNC240
"""Pods with `hostUsers: false` as root: user 0 of their containers is somebody who owns nothing else on the host."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from kubecore.images.archives import load
from kubecore.images.store import ImageStore
from kubecore.kubelet.networks.network import BridgeNetwork, LoopbackNetwork, detect
from kubecore.kubelet.runtime import capabilities
from kubecore.kubelet.runtime.interface import Identity, MemoryDirectory, Mount
from kubecore.kubelet.runtime.mapped_roots import lack
from kubecore.kubelet.runtime.pod_users import IDS
from tests.integration.host_runtime.conftest import Node, make_oci_node, make_program_node, processes, until
from tests.support.fake_api import FakeAPI
from tests.support.own_ranges import own_octet, own_pod_range
from tests.support.running_kubelet import running_kubelet, shell
from tests.support.small_image import Layer, SmallImage, programs

Make = Callable[..., Awaitable[Node]]

pytestmark = pytest.mark.root

_OWNED = Layer(
    {"etc/passwd": b"root:x:0:0::/root:/bin/sh\n", "kept": b"kept", "given": b"given"}, owners={"given": 1000}
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = SmallImage([programs(), _OWNED], {"Cmd": ["/bin/sh"]}, ["small:v1"])
    return image.docker_archive(tmp_path_factory.mktemp("image") / "small.tar")


@pytest.fixture(params=["oci", "runc"])
async def node(request: pytest.FixtureRequest, tmp_path: Path, archive: Path) -> AsyncIterator[Node]:
    """By our own launcher, and by a program of the OCI runtime specification."""
    if detect().mode != "netns":
        pytest.skip(detect().reason)
    if why := lack(tmp_path):
        pytest.skip(why)
    octet, bridge = own_octet(), f"kcu{os.getpid()}"
    network = BridgeNetwork([f"10.{octet}.5.0/24"], bridge=bridge, cluster_cidrs=[f"10.{octet}.0.0/16"])
    make = make_oci_node if request.param == "oci" else make_program_node
    node = await make(tmp_path, network, archive, "small:v1")
    yield node
    await node.runtime.close()
    network.close()
    assert not node.mounts()


async def test_root_in_there_is_somebody_else_outside(node: Node) -> None:
    sandbox, _ = await node.sandbox(own_users=True)
    container = await node.start(sandbox, "sleep", "60")
    inside = await node.runtime.exec_sync(container, ["sh", "-c", "id -u; cat /proc/self/uid_map"], 30)
    user, inner, outer, count = inside.stdout.split()
    assert (user, inner, int(count)) == (b"0", b"0", IDS)
    pid = node.runtime.container_status(container).pid
    assert Path(f"/proc/{pid}").stat().st_uid == int(outer) >= IDS
    assert int(outer) % IDS == 0


@pytest.mark.parametrize("make", [make_oci_node, make_program_node])
async def test_a_pod_on_the_hosts_network_sees_that(tmp_path: Path, archive: Path, make: Make) -> None:
    """As all are in loopback mode: there is no /sys that could be mounted for it."""
    if why := lack(tmp_path):
        pytest.skip(why)
    network = LoopbackNetwork(own_pod_range())
    node = await make(tmp_path, network, archive, "small:v1")
    try:
        sandbox, _ = await node.sandbox(own_users=True)
        told = await node.output(sandbox, "ls /sys/class/net; cat /proc/self/uid_map")
    finally:
        await node.runtime.close()
    *links, outer = told.split("\n")
    assert "lo" in links
    assert outer.split()[1] != "0"


async def test_two_pods_have_no_user_in_common(node: Node) -> None:
    script = "cat /proc/self/uid_map"
    one, other = [(await node.output((await node.sandbox(own_users=True))[0], script)).split()[1] for _ in range(2)]
    assert one != other


async def test_ids_are_claimed_once_for_each_pod_and_given_back(node: Node) -> None:
    def claims(what: str) -> list[str]:
        """The sockets of that name, or number."""
        lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
        return [line[6] for line in lines if what in (line[6], line[-1])]

    sandbox, _ = await node.sandbox(own_users=True)
    first = (await node.output(sandbox, "cat /proc/self/uid_map")).split()[1]
    await node.sandbox(own_users=True)
    (claim,) = claims(f"@kubecore/users/{first}")
    await node.runtime.remove_pod_sandbox(sandbox)
    assert claims(claim) == []


async def test_files_are_whose_the_image_and_the_volume_say(node: Node) -> None:
    """On the disk, too: what a pod writes to a volume is as if it had the host's users."""
    volume = node.root / "volume"
    volume.mkdir()
    (volume / "roots").write_text("x")
    os.chown(volume / "roots", 0, 0)
    sandbox, _ = await node.sandbox(own_users=True)
    script = (
        "stat -c '%n %u %g' / /kept /given /data/roots /etc/hosts /dev/shm; "
        "echo mine > /mine; echo mine > /data/mine; echo new >> /kept; stat -c '%n %u' /mine /data/mine; cat /kept"
    )
    told = await node.output(sandbox, script, mounts=(Mount(volume, "/data"),))
    assert told.split("\n") == [
        "/ 0 0",
        "/kept 0 0",
        "/given 1000 1000",
        "/data/roots 0 0",
        "/etc/hosts 0 0",
        "/dev/shm 0 0",
        "/mine 0",
        "/data/mine 0",
        "keptnew",
    ]
    assert (volume / "mine").stat().st_uid == 0


async def test_a_user_of_the_image_is_one_of_the_pods(node: Node) -> None:
    sandbox, _ = await node.sandbox(own_users=True)
    identity = Identity(user=1000, group=1000, supplemental_groups=(2000,))
    script = "id -u; id -g; id -G; cat /given; echo x >> /given && echo written; echo x > /kept || echo refused"
    told = await node.output(sandbox, script, identity=identity)
    assert told.split("\n")[:3] == ["1000", "1000", "1000 2000"]
    assert "written" in told
    assert "refused" in told


async def test_what_is_in_memory_and_what_lies_below_a_volume_is_the_pods_too(node: Node) -> None:
    memory, volume = node.root / "memory", node.root / "volume"
    memory.mkdir()
    (volume / "deep").mkdir(parents=True)
    sandbox, _ = await node.sandbox(own_users=True, memory_directories=(MemoryDirectory(memory, 1 << 20, 0o700),))
    mounts = (Mount(memory, "/memory", in_memory=True), Mount(volume, "/sub", sub_path="deep", read_only=True))
    script = "stat -c '%n %u' /memory /sub; echo x > /memory/y && cat /memory/y; echo x > /sub/y || echo refused"
    told = await node.output(sandbox, script, mounts=mounts)
    assert told.split("\n")[:3] == ["/memory 0", "/sub 0", "x"]
    assert "refused" in told


async def test_it_has_all_that_other_pods_have(node: Node) -> None:
    sandbox, address = await node.sandbox(own_users=True, sysctls=(("net.ipv4.ip_unprivileged_port_start", "7"),))
    script = (
        "hostname; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; ls /sys/class/net; echo $$; "
        "echo x > /dev/null; echo said > /dev/stdout; mount -t tmpfs none /root || echo refused"
    )
    told = (await node.output(sandbox, script)).split("\n")
    assert told[:5] == ["pod1", "7", "eth0", "lo", "1"]
    assert "said" in told
    assert "refused" in told
    assert address


async def test_containers_may_share_their_processes(node: Node) -> None:
    sandbox, _ = await node.sandbox(own_users=True, share_processes=True)
    marker = f"4321{os.getpid()}"
    await node.start(sandbox, "sleep", marker)
    await until(lambda: processes(marker) != [])  # runc has told it to begin, and does not see that it has
    told = await node.output(sandbox, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert f"sleep {marker}" in told


async def test_what_is_guaranteed_its_memory_is_so_in_there_too(node: Node) -> None:
    """Nobody but the host's root may lower that score."""
    if not capabilities.has_of_host("SYS_RESOURCE"):
        pytest.skip("nobody may lower that score here")
    sandbox, _ = await node.sandbox(own_users=True)
    container = await node.start(sandbox, "sleep", "60", oom_score_adj=-997)
    pid = node.runtime.container_status(container).pid
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "-997\n"


async def test_a_terminal_is_its_users(node: Node) -> None:
    sandbox, _ = await node.sandbox(own_users=True)
    told = await node.output(sandbox, "tty; stat -c %u $(tty); echo x > $(tty)", tty=True)
    assert [line.rstrip() for line in told.split("\n")][1:3] == ["0", "x"]


async def test_a_kubelet_gives_them_where_its_runtime_can_and_tells_of_it(tmp_path: Path, archive: Path) -> None:
    """Volumes of images are whose the image says, too."""
    async with running_kubelet(tmp_path, runtime="oci") as running:
        if why := running.kubelet.image_lack or lack(tmp_path):
            pytest.skip(why)
        store = ImageStore(tmp_path / "root/images")
        load(archive, store)
        data = SmallImage([Layer({"roots": b"x"}, modes={"roots": 0o600}), Layer({"more": b"y"})], {}, ["data:1"])
        load(data.docker_archive(tmp_path / "data.tar"), store)
        script = "head -1 /proc/self/uid_map; cat /shown/roots /shown/more; stat -c %u /shown/roots"
        mounts = [{"name": "image", "mountPath": "/shown"}]
        container = shell(script, image="small:v1", imagePullPolicy="Never", volumeMounts=mounts)
        volumes = [{"name": "image", "image": {"reference": "data:1", "pullPolicy": "Never"}}]
        running.pod("own", container, volumes=volumes, hostUsers=False)
        await running.phase("own", "Succeeded")
        said = (await running.get("/containerLogs/default/own/main"))[1].splitlines()
        assert said[0].split()[0] == "0" and said[0].split()[1] != "0"
        assert said[1] == "xy0"
        await until(lambda: told(running.api)[""])
        assert told(running.api) | {"runc": False} == {"": True, "oci": True, "host": False, "runc": False}


def told(api: FakeAPI) -> dict[str, bool]:
    """By which handlers the node says that pods can have users of their own."""
    node = api.get("nodes", "node")
    assert node is not None
    return {one["name"]: one["features"]["userNamespaces"] for one in node["status"]["runtimeHandlers"]}
