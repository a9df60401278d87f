"""`kubecore up` by a user without any rights, by default (rootless, where the kernel has it) and in loopback mode.

Tests that are run by root become another user.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.asking import answer_at
from tests.support.rootless import trouble
from tests.support.small_image import Layer, SmallImage, programs
from tests.support.unprivileged import NoSuchUser, User, user
from tests.support.unprivileged_cluster import LOOPBACK, Running, up

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

OPTIONS = {"rootless": (), "loopback": LOOPBACK}
"""By the mode that they lead to."""


@pytest.fixture(scope="module")
def somebody() -> Iterator[User]:
    try:
        with user() as found:
            yield found
    except NoSuchUser as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=OPTIONS)
def mode(request: pytest.FixtureRequest, somebody: User) -> str:
    if request.param == "rootless" and (why := trouble(somebody, "way_out")):
        pytest.skip(why)
    return str(request.param)


@pytest.fixture(scope="module")
def cluster(somebody: User, mode: str) -> Iterator[Running]:
    with up(somebody, f"cluster-{mode}", *OPTIONS[mode]) as running:
        running.example()
        yield running


# --- while it runs


def test_the_user_is_told_the_network_mode_and_why_it_is_no_better(cluster: Running, mode: str) -> None:
    assert cluster.value("{.items[0].metadata.annotations.kubecore\\.dev/network-mode}", "nodes") == mode
    because = {
        "rootless": "CAP_SYS_ADMIN and CAP_NET_ADMIN are missing (not root); Services have 10.",
        "loopback": "loopback mode was asked for; Services have 127.96.",
    }
    (line,) = [one for one in cluster.command.errors.splitlines() if one.startswith("kubecore: pod network ")]
    assert line.startswith(f"kubecore: pod network {mode}: ")
    assert f"; chosen because {because[mode]}" in line


def test_a_deployment_is_reached_from_the_host_by_its_node_port(cluster: Running) -> None:
    port = cluster.value("{.spec.ports[0].nodePort}", "-n", "web", "service", "frontend")
    assert "heard: hello from the back end, by pod backend-" in answer_at(f"http://127.0.0.1:{port}/")


def test_kubectl_enters_pods_and_forwards_their_ports(cluster: Running) -> None:
    names = "import socket; print(socket.gethostbyname('backend'))"
    found = cluster.kubectl("-n", "web", "exec", "deployment/frontend", "--", "python3", "-c", names).strip()
    assert found == cluster.value("{.spec.clusterIP}", "-n", "web", "service", "backend")
    with cluster.forwarded("deployment/frontend", 8081, "-n", "web") as port:
        assert "heard: hello from the back end" in answer_at(f"http://127.0.0.1:{port}/")


def test_kubectl_copies_files_whoever_has_them(cluster: Running, somebody: User) -> None:
    """A container's root is the only user that files can belong to there; whose they were, the archive tells."""
    sent, folder = somebody.home / "sent", somebody.home / f"copied-{cluster.data_dir.name}"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    sent.write_text("of somebody\n")
    os.chown(sent, somebody.uid, -1)
    pod = cluster.value("{.items[0].metadata.name}", "-n", "web", "pods", "-l", "app=backend")
    cluster.kubectl("-n", "web", "cp", str(sent), f"{pod}:{folder}/there")
    assert cluster.kubectl("-n", "web", "exec", pod, "--", "cat", f"{folder}/there") == "of somebody\n"
    cluster.kubectl("-n", "web", "cp", f"{pod}:{folder}/there", str(somebody.home / "back"))
    assert (somebody.home / "back").read_text() == "of somebody\n"


def test_containers_have_the_file_system_of_their_image_in_which_they_are_root(
    cluster: Running, somebody: User
) -> None:
    run = {"Env": ["OF_THE_IMAGE=yes"], "WorkingDir": "/work"}
    image = SmallImage([programs(), Layer({"said": b"by the image\n", "work": None})], run, ["small:1"])
    archive = image.docker_archive(somebody.home / "small.tar")
    archive.chmod(0o644)
    done = somebody.run(*somebody.program[-3:], "image", "load", "--data-dir", str(cluster.data_dir), str(archive))
    assert done.returncode == 0, done.stderr
    script = "cat /said; id -u; echo $OF_THE_IMAGE; pwd; echo 1 > /made; echo 2 > /disk/made; exec sleep 1000"
    container = {
        "name": "main",
        "image": "small:1",
        "imagePullPolicy": "Never",
        "command": ["/bin/sh", "-c", script],
        "volumeMounts": [{"name": "disk", "mountPath": "/disk"}],
    }
    spec = {
        "runtimeClassName": "oci",
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
        "volumes": [{"name": "disk", "emptyDir": {}}],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "imaged"}, "spec": spec}
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(pod))
    cluster.kubectl("wait", "pod/imaged", "--for=condition=Ready", "--timeout=180s")
    once_made = "until [ -s /disk/made ]; do sleep 0.05; done; cat /made /disk/made"
    assert cluster.kubectl("exec", "imaged", "--", "/bin/sh", "-c", once_made) == "1\n2\n"
    assert cluster.kubectl("logs", "imaged").split("\n")[:4] == ["by the image", "0", "yes", "/work"]
    cluster.kubectl("delete", "pod", "imaged", "--timeout=180s")
    assert list((cluster.data_dir / "nodes").glob("*/pods/*/containers/*/image")) == []


def test_a_pod_reaches_the_api_with_its_token(cluster: Running) -> None:
    said = cluster.pod(
        "in-cluster",
        """
        import os, ssl, urllib.request
        folder = "/var/run/secrets/kubernetes.io/serviceaccount"
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
        for name in (host, "kubernetes.default.svc"):
            request = urllib.request.Request(
                f"https://{name}:{port}/api/v1", headers={"Authorization": "Bearer " + open(folder + "/token").read()}
            )
            trusted = ssl.create_default_context(cafile=folder + "/ca.crt")
            print(urllib.request.urlopen(request, context=trusted, timeout=60).status)
        """,
    )
    assert said == "200\n200\n"


def test_a_pod_has_its_volumes_and_knows_services_by_name(cluster: Running) -> None:
    words = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "words"}, "data": {"w": "hello"}}
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(words))
    said = cluster.pod(
        "looker",
        "cat /words/w; echo; echo kept > /scratch/file; cat /scratch/file; touch /words/x 2>/dev/null || echo refused; "
        "getent hosts backend.web.svc.cluster.local | wc -l; hostname; ls /proc | grep -c '^1$'",
        interpreter="/bin/sh",
        mounts=[{"name": "words", "mountPath": "/words"}, {"name": "scratch", "mountPath": "/scratch"}],
        volumes=[{"name": "words", "configMap": {"name": "words"}}, {"name": "scratch", "emptyDir": {}}],
    )
    assert said.split() == ["hello", "kept", "refused", "1", "looker", "1"]


def test_the_node_tells_what_a_pod_has_of_disk_and_memory_and_shows_its_logs(cluster: Running) -> None:
    write = "head -c 3000000 /dev/zero > /disk/file; head -c 2000000 /dev/zero > /memory/file; echo written; sleep 1000"
    cluster.apply(
        "writer",
        ["/bin/sh", "-c", write],
        mounts=[{"name": name, "mountPath": f"/{name}"} for name in ("disk", "memory")],
        volumes=[
            {"name": "disk", "emptyDir": {}},
            {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "4Mi"}},
        ],
    )
    cluster.kubectl("wait", "pod", "writer", "--for=condition=Ready", "--timeout=180s")
    node = f"/api/v1/nodes/{cluster.value('{.spec.nodeName}', 'pod', 'writer')}/proxy"
    assert "written" in cluster.kubectl("logs", "writer", "--follow", "--tail=1", "--limit-bytes=7")
    summary = json.loads(cluster.kubectl("get", "--raw", f"{node}/stats/summary"))
    (pod,) = [one for one in summary["pods"] if one["podRef"]["name"] == "writer"]
    volumes = {one["name"]: one for one in pod["volume"]}
    assert volumes["disk"]["usedBytes"] >= 3_000_000
    assert volumes["memory"]["capacityBytes"] == 4 << 20
    assert 2_000_000 <= volumes["memory"]["usedBytes"] < 3_000_000
    assert pod["ephemeral-storage"]["usedBytes"] >= 3_000_000
    assert "writer_default_main-" in cluster.kubectl("get", "--raw", f"{node}/logs/containers/")
    cluster.kubectl("delete", "pod", "writer", "--grace-period=0", "--force")


def test_a_second_cluster_beside_it_has_addresses_of_its_own(cluster: Running, somebody: User, mode: str) -> None:
    with up(somebody, f"second-{mode}", *OPTIONS[mode]) as second:
        second.example()
        assert second.node_address != cluster.node_address
        for running in (cluster, second):
            path = "{.items[*].metadata.name}"
            theirs = running.value(path, "-n", "web", "pods", "-l", "app=backend").split()
            port = running.value("{.spec.ports[0].nodePort}", "-n", "web", "service", "frontend")
            assert answer_at(f"http://127.0.0.1:{port}/").split()[-1] in theirs


EMBEDS = """
import json, sys
from pathlib import Path
from kubecore.cluster import ClusterConfig
from kubecore.threaded_cluster import ThreadedCluster

if __name__ == "__main__":
    for name in "ab":
        folder = Path(sys.argv[1]) / name
        with ThreadedCluster(ClusterConfig.throwaway(folder, network_mode=sys.argv[2])) as cluster:
            cluster.make_namespace("test-")
        print(json.loads((folder / "networks.json").read_text())["mode"])
"""


def test_a_cluster_within_a_program_has_that_network_too_each_time_that_it_starts(somebody: User, mode: str) -> None:
    asked = {"rootless": "auto", "loopback": "loopback"}[mode]
    program = somebody.home / f"embeds-{mode}.py"
    program.write_text(EMBEDS)
    done = somebody.run(*somebody.program[len(somebody.prefix) : -2], str(program), str(somebody.home / mode), asked)
    assert (done.returncode, done.stdout.split()) == (0, [mode, mode]), done.stderr


# --- its end

LINGERING = "trap '' TERM HUP; setsid sleep {0} & (setsid sleep {0} &); sleep {0} & exec sleep {0}"
LINGERING_PROCESSES = 4


def linger(running: Running, marker: str) -> None:
    """Two pods whose processes do their best to outlive them, the second without a pid namespace to end them."""
    for name, spec in (("lingering", {}), ("in-host-pids", {"hostPID": True})):
        running.apply(name, ["/bin/sh", "-c", LINGERING.format(marker)], **spec)
    with_deadline = threading.Event()
    for _ in range(2000):
        if len(with_argument(marker)) == 2 * LINGERING_PROCESSES:
            return
        with_deadline.wait(0.05)
    pytest.fail(f"the pods did not come up: {running.kubectl('get', 'pods')}")


def living() -> Iterator[tuple[int, int, list[bytes]]]:
    """Pid, parent and arguments of every process that has not ended."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent, *_ = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if state not in "ZX":
                yield int(entry.name), int(parent), arguments


def with_argument(word: str) -> list[int]:
    return [pid for pid, _, arguments in living() if word.encode() in arguments]


def descendants(pid: int) -> list[int]:
    parents = {child: parent for child, parent, _ in living()}
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def test_sigterm_ends_it_within_five_seconds_with_status_0_and_no_process_left(somebody: User, mode: str) -> None:
    marker = f"5{os.getpid()}1"
    with up(somebody, f"ending-{mode}", *OPTIONS[mode]) as running:
        running.example()
        linger(running, marker)
        pods = descendants(running.command.process.pid)
        assert len(pods) >= 5 + 2
        assert running.command.stop_within(5) == 0
        left = {pid for pid, _, _ in living()}
        assert left.isdisjoint(pods)
        assert with_argument(marker) == []


def test_pods_of_a_killed_run_go_on_and_are_taken_over_by_the_next_start(somebody: User, mode: str) -> None:
    marker = f"5{os.getpid()}2"
    ids = "{.items[*].status.containerStatuses[*].containerID}"
    with up(somebody, f"killed-{mode}", *OPTIONS[mode]) as running:
        linger(running, marker)
        old, containers = with_argument(marker), running.value(ids, "pods")
        running.command.stop(number=signal.SIGKILL)
        assert with_argument(marker) == old
    with up(somebody, f"killed-{mode}") as running:
        running.kubectl("wait", "pod", "lingering", "in-host-pids", "--for=condition=Ready", "--timeout=180s")
        assert running.kubectl("exec", "lingering", "--", "echo", "here").strip() == "here"
        assert (with_argument(marker), running.value(ids, "pods")) == (old, containers)
        assert running.value("{.items[*].status.containerStatuses[*].restartCount}", "pods") == "0 0"
    assert with_argument(marker) == []


def test_a_data_directory_that_may_not_be_written_is_one_line(somebody: User) -> None:
    done = somebody.run(*somebody.program[len(somebody.prefix) :], "up", "--data-dir", "/proc/kubecore")
    assert done.returncode == 1
    assert done.stderr == (
        "kubecore: cannot write to the data directory: /proc/kubecore: No such file or directory; "
        "choose one with --data-dir\n"
    )
