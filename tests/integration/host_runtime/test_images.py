# ruff: noqa: ASYNC240
"""Containers of the oci runtime, with real processes on the file systems of small images."""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kubecore.images.archives import load
from kubecore.images.store import ImageStore
from kubecore.kubelet.networks.network import BridgeNetwork, LoopbackNetwork, detect
from kubecore.kubelet.runtime import capabilities
from kubecore.kubelet.runtime.image_roots import WRITTEN
from kubecore.kubelet.runtime.interface import Identity, Mount, ProcessUser, RuntimeFailure
from kubecore.kubelet.runtime.scratch import scratch_of
from tests.integration.host_runtime.conftest import Node, make_node, make_oci_node, settled, until
from tests.support.own_ranges import own_octet, own_pod_range
from tests.support.running_kubelet import running_kubelet, shell
from tests.support.small_image import Layer, SmallImage, programs
from tests.support.small_registry import SmallRegistry, serving

PASSWD = b"root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n"
GROUP = b"root:x:0:\napp:x:1001:\nextra:x:1002:other,app\n"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lower = Layer({"etc/passwd": PASSWD, "etc/group": GROUP, "etc/gone": b"x", "from": b"lower", "run": None})
    upper = Layer({"from": b"upper", "etc/.wh.gone": b"", "var/run": "->/run", "escape": "->/../../../etc"})
    run = {"Entrypoint": ["/bin/sh", "-c"], "Cmd": ["echo $GREETING; pwd; id -u"], "Env": ["GREETING=hello", "A=b"]}
    image = SmallImage([programs(), lower, upper], {**run, "WorkingDir": "/work", "User": "0"}, ["small:v1"])
    return image.docker_archive(tmp_path_factory.mktemp("image") / "small.tar")


@pytest.fixture
async def node(tmp_path: Path, archive: Path) -> AsyncIterator[Node]:
    network = LoopbackNetwork(own_pod_range())
    node = await make_oci_node(tmp_path, network, archive, "small:v1")
    yield node
    await node.runtime.close()
    assert not list(tmp_path.glob("pod*/scratch/*"))


async def test_the_image_says_what_runs_where_as_whom_and_with_which_variables(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    log = node.root / "main.log"
    await node.start(sandbox, log_path=log)
    assert (await node.end()).exit_code == 0
    assert [line.split(" ", 3)[3] for line in log.read_text().splitlines()] == ["hello", "/work", "0"]


@pytest.mark.root
@pytest.mark.parametrize("runtime", ["host", "oci"])
@pytest.mark.parametrize("privileged", [False, True])
async def test_sys_tells_of_the_pods_network(tmp_path: Path, archive: Path, runtime: str, privileged: bool) -> None:
    """Not of the host's; and of control groups as before."""
    if detect().mode != "netns":
        pytest.skip(detect().reason)
    octet, bridge = own_octet(), f"kci{os.getpid()}"
    network = BridgeNetwork([f"10.{octet}.5.0/24"], bridge=bridge, cluster_cidrs=[f"10.{octet}.0.0/16"])
    images = runtime == "oci"
    node = await (make_oci_node(tmp_path, network, archive, "small:v1") if images else make_node(tmp_path, network))
    try:
        sandbox, _ = await node.sandbox()
        script = "ls /sys/class/net; ls -d /sys/fs/cgroup/*; echo x > /sys/x || echo refused"
        told = (await node.output(sandbox, script, privileged=privileged)).split("\n")
    finally:
        await node.runtime.close()
        network.close()
    assert {"eth0", "lo"} <= set(told)
    assert bridge not in told
    assert "refused" in told
    groups = [one for one in told if one.startswith("/sys/fs/cgroup/") and "*" not in one]
    assert bool(groups) == any(Path("/sys/fs/cgroup").iterdir())


@pytest.mark.root
async def test_any_user_may_open_his_output_by_its_name(node: Node) -> None:
    """As servers do that log to /dev/stdout; and in commands that are run inside."""
    sandbox, _ = await node.sandbox()
    script = "echo said > /dev/stdout; echo loudly > /dev/stderr"
    identity = Identity(user=1000, group=1000)
    assert (await node.output(sandbox, script, identity=identity)).split("\n") == ["said", "loudly"]
    container = await node.start(sandbox, "sleep", "60", identity=identity)
    inside = await node.runtime.exec_sync(container, ["sh", "-c", script], 30)
    assert (inside.stdout, inside.stderr) == (b"said\n", b"loudly\n")


@pytest.mark.root
async def test_what_is_guaranteed_its_memory_is_the_last_that_the_kernel_ends(node: Node) -> None:
    if not capabilities.has_of_host("SYS_RESOURCE"):
        pytest.skip("nobody may lower that score here")
    sandbox, _ = await node.sandbox()
    assert await node.output(sandbox, "cat /proc/self/oom_score_adj", oom_score_adj=-997) == "-997"


async def test_the_pod_has_the_last_word(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    script = "echo $GREETING $A; pwd; id -u"
    said = await node.output(sandbox, script, environment=(("A", "c"),), working_directory="/new")
    assert said.splitlines() == ["hello c", "/new", "0"]


async def test_arguments_alone_go_to_the_images_entrypoint(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    log = node.root / "main.log"
    await node.start(sandbox, arguments=("echo mine",), log_path=log)
    await node.end()
    assert log.read_text().endswith("mine\n")


async def test_it_sees_the_layers_one_over_the_other_and_nothing_of_the_host(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    said = await node.output(sandbox, f"cat /from; test -e /etc/gone || echo; test -e {node.root} || echo nothing")
    assert said.split() == ["upper", "nothing"]


async def test_what_it_writes_stays_its_own(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    said = await node.output(sandbox, "echo x > /from; rm /etc/passwd; cat /from; ls /etc")
    assert said == "x\ngroup\nhostname\nhosts"
    assert (await node.output(sandbox, "cat /from")) == "upper"


@pytest.mark.root
async def test_a_user_of_the_image_has_its_groups_and_home(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    said = await node.output(sandbox, "id -u; id -G; echo $HOME", identity=Identity(user=1000))
    assert said.splitlines() == ["1000", "1001 1002", "/home/app"]
    assert [one.user for one in node.runtime.list_containers()] == [ProcessUser(1000, 1001, (1001, 1002))]
    strict = Identity(user=1000, supplemental_groups=(7,), no_other_groups=True)
    assert await node.output(sandbox, "id -G", identity=strict) == "1001 7"


async def test_volumes_are_mounted_along_the_images_links_and_never_out_of_it(node: Node) -> None:
    volume = node.root / "volume"
    volume.mkdir()
    (volume / "file").write_text("content")
    sandbox, _ = await node.sandbox()
    mounts = (Mount(volume, "/var/run/data"), Mount(volume, "/escape/data"), Mount(volume / "file", "/one/file"))
    said = await node.output(sandbox, "cat /run/data/file /etc/data/file /one/file", mounts=mounts)
    assert said == "contentcontentcontent"
    assert not Path("/etc/data").exists()


async def test_no_mount_point_is_made_by_way_of_a_link_in_a_volume(node: Node) -> None:
    volume, outside = node.root / "volume", node.root / "outside"
    volume.mkdir()
    outside.mkdir()
    (volume / "link").symlink_to(outside)
    sandbox, _ = await node.sandbox()
    mounts = (Mount(volume, "/data"), Mount(volume, "/data/link/deep"))
    with pytest.raises(RuntimeFailure, match="'link' is a link within a volume"):
        await node.start(sandbox, "true", mounts=mounts)
    assert list(outside.iterdir()) == []


async def test_it_has_processes_devices_and_names_of_its_own(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    said = await node.output(sandbox, "echo $$; cat /etc/hosts; hostname; echo x > /dev/null; ls /dev/shm /dev/fd")
    assert said.splitlines()[0] == "1"
    assert "from-the-pod" in said
    assert f"pod{node.pods}" in said


async def test_its_hostname_file_is_the_pods_though_the_image_has_none(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    assert await node.output(sandbox, "cat /etc/hostname") == f"pod{node.pods}"


async def test_what_tells_of_the_kernel_cannot_be_written(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    said = await node.output(
        sandbox, "echo 1 > /proc/sys/kernel/panic; echo 1 > /sys/x; head -c 1 /proc/kcore; echo end"
    )
    assert said.count("Read-only file system") == 2
    assert "end" in said.splitlines()


async def test_a_read_only_root_leaves_volumes_writable(node: Node) -> None:
    volume = node.root / "volume"
    volume.mkdir()
    sandbox, _ = await node.sandbox()
    mounts = (Mount(volume, "/data"),)
    said = await node.output(sandbox, "touch /x; touch /data/x && echo well", mounts=mounts, read_only_root=True)
    assert "Read-only file system" in said
    assert "well" in said.splitlines()


async def test_it_is_confined_and_commands_in_it_too(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    container = await node.start(sandbox, "sleep", "1000", capabilities=capabilities.DEFAULT, seccomp="runtime-default")
    result = await node.runtime.exec_sync(container, ["sh", "-c", "unshare -m true; cat /from"], 60)
    assert (result.stdout, b"not permitted" in result.stderr) == (b"upper", True)


async def test_what_it_changes_of_its_image_is_kept_where_the_pods_disk_use_is_counted(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    container = await node.start(sandbox, "sh", "-c", "echo changed > /mine; exec sleep 1000")
    (written,) = node.root.rglob(str(scratch_of(container) / WRITTEN))
    assert await settled(lambda: (written / "mine").exists() and (written / "mine").read_text() == "changed\n")


async def test_a_program_that_the_image_lacks_is_named(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    with pytest.raises(RuntimeFailure, match='exec: "python3": executable file not found in \\$PATH'):
        await node.start(sandbox, "python3")


async def test_an_image_that_is_not_there_is_told(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    with pytest.raises(RuntimeFailure, match="image 'other' is not present on this node"):
        await node.start(sandbox, "true", image="other")


async def test_what_it_changed_goes_when_it_has_ended(node: Node) -> None:
    sandbox, _ = await node.sandbox()
    log = node.root / "main.log"
    container = await node.start(sandbox, "sh", "-c", "echo x > /file; echo done; sleep 1000", log_path=log)
    await until(lambda: b"done" in log.read_bytes())
    scratch = next(node.root.glob("pod*/scratch/*"))
    written = scratch / "image/upper/file"
    assert stat.S_ISREG(written.stat().st_mode)
    await node.runtime.stop_container(container, 0)
    assert await settled(lambda: not scratch.exists())


# --- from a registry to a pod


async def test_a_pod_runs_an_image_that_a_registry_has_for_those_who_may(tmp_path: Path) -> None:
    run = {"Entrypoint": ["/bin/sh"], "Cmd": ["-c", "cat /said; sleep 1000"]}
    image = SmallImage([programs(("sh", "cat", "sleep")), Layer({"said": b"from the image\n"})], run)
    async with serving(SmallRegistry("secret")) as registry, running_kubelet(tmp_path, runtime="oci") as running:
        if running.kubelet.image_lack:
            pytest.skip(running.kubelet.image_lack)
        manifest = registry.push(image, "team/app", "v1")
        auths = {"auths": {registry.host: {"username": "me", "password": "secret"}}}
        data = {".dockerconfigjson": base64.b64encode(json.dumps(auths).encode()).decode()}
        running.api.add("secrets", {"metadata": {"name": "mine"}, "data": data})
        container = {"name": "main", "image": f"{registry.host}/team/app:v1"}
        running.pod("refused", container)
        running.pod("taken", container, imagePullSecrets=[{"name": "mine"}])
        await running.phase("taken", "Running")
        await running.said("taken", "from the image")
        (told,) = (await running.phase("taken", "Running"))["status"]["containerStatuses"]
        assert told["imageID"] == f"{registry.host}/team/app@{manifest}"
        assert told["containerID"].startswith("oci://")


@pytest.mark.parametrize("runtime", ["host", "oci"])
async def test_a_volume_shows_what_an_image_holds_and_cannot_be_written(tmp_path: Path, runtime: str) -> None:
    layers = [
        Layer({"data/said": b"below\n", "data/gone": b""}),
        Layer({"data/said": b"above\n", "data/.wh.gone": b""}),
    ]
    data = SmallImage(layers, {}, ["data:1"])
    async with running_kubelet(tmp_path, runtime=runtime) as running:
        if running.kubelet.image_lack:
            pytest.skip(running.kubelet.image_lack)
        store = ImageStore(tmp_path / "root/images")
        load(data.docker_archive(tmp_path / "data.tar"), store)
        load(
            SmallImage([programs(("sh", "cat", "ls", "touch"))], {}, ["app:1"]).docker_archive(tmp_path / "app.tar"),
            store,
        )
        script = "cat /shown/data/said /part/said; ls /shown/data; touch /shown/new 2>/dev/null || echo refused"
        mounts = [{"name": "image", "mountPath": "/shown"}, {"name": "image", "mountPath": "/part", "subPath": "data"}]
        container = shell(script, image="app:1", imagePullPolicy="Never", volumeMounts=mounts)
        volumes = [{"name": "image", "image": {"reference": "data:1", "pullPolicy": "Never"}}]
        running.pod("reads", container, volumes=volumes)
        missing = [{"name": "image", "image": {"reference": "nowhere:1", "pullPolicy": "Never"}}]
        running.pod("waits", container, volumes=missing)
        await running.phase("reads", "Succeeded")
        said = (await running.get("/containerLogs/default/reads/main"))[1].splitlines()
        assert (said[:3], said[-1]) == (["above", "above", "said"], "refused")
        waiting = await running.until("waits", lambda pod: bool(pod["status"].get("containerStatuses")))
        (told,) = waiting["status"]["containerStatuses"]
        assert told["state"]["waiting"]["reason"] == "ErrImageNeverPull"
