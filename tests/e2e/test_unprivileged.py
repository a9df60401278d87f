"""`kubecore up` by a user without any rights, in loopback mode. Tests that are run by root become another user."""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.asking import answer_at
from tests.support.small_image import Layer, SmallImage, programs
from tests.support.unprivileged import NoSuchUser, User, user
from tests.support.unprivileged_cluster import Running, up

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FIRST_FREE_PORT = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())


@pytest.fixture(scope="module")
def somebody() -> Iterator[User]:
    try:
        with user() as found:
            yield found
    except NoSuchUser as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def cluster(somebody: User) -> Iterator[Running]:
    with up(somebody, "cluster") as running:
        running.example()
        yield running


# --- while it runs


def test_the_user_is_told_the_network_mode_and_why_it_is_no_better(cluster: Running) -> None:
    assert "kubecore: pod network loopback: pods share the host's network" in cluster.command.errors
    assert "(not root); Services have 127.96." in cluster.command.errors
    assert cluster.value("{.items[0].metadata.annotations.kubecore\\.dev/network-mode}", "nodes") == "loopback"


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


def test_the_front_end_answers_at_its_node_port_and_its_cluster_ip(cluster: Running) -> None:
    port = cluster.value("{.spec.ports[0].nodePort}", "-n", "web", "service", "frontend")
    cluster_ip = cluster.value("{.spec.clusterIP}", "-n", "web", "service", "frontend")
    for where in (f"{cluster.node_address}:{port}", f"127.0.0.1:{port}", f"{cluster_ip}:8080"):
        assert "heard: hello from the back end, by pod backend-" in answer_at(f"http://{where}/")


def test_everything_a_cluster_serves_lies_in_its_own_part_of_127(cluster: Running) -> None:
    services = cluster.value("{.items[*].spec.clusterIP}", "services", "-A").split()
    pods = cluster.value("{.items[*].status.podIP}", "pods", "-n", "web").split()
    range_ = ipaddress.IPv4Network(f"{services[0].rsplit('.', 1)[0]}.0/21", strict=False)
    assert range_.subnet_of(ipaddress.IPv4Network("127.96.0.0/16"))
    assert all(ipaddress.IPv4Address(one) in range_ for one in services)
    assert len(pods) == len(set(pods)) == 5


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


@pytest.mark.skipif(FIRST_FREE_PORT <= 80, reason="everybody may bind low ports here")
def test_a_low_port_of_a_service_is_a_clear_event_and_its_other_ports_work(cluster: Running) -> None:
    cluster.kubectl("-n", "web", "expose", "deployment", "backend", "--name=low", "--port=80", "--target-port=8080")
    patch = (
        '{"spec":{"ports":[{"name":"low","port":80,"targetPort":8080},{"name":"high","port":8888,"targetPort":8080}]}}'
    )
    cluster.kubectl("-n", "web", "patch", "service", "low", "-p", patch)
    cluster.kubectl(
        "-n", "web", "wait", "events", "--for=jsonpath={.reason}=FailedToListen",
        "--field-selector=involvedObject.name=low", "--timeout=180s",
    )  # fmt: skip
    told = cluster.value("{.items[0].message}", "-n", "web", "events", "--field-selector=involvedObject.name=low")
    assert told.endswith(
        f":80: Permission denied; ports below {FIRST_FREE_PORT} need root or CAP_NET_BIND_SERVICE here"
    )
    address = cluster.value("{.spec.clusterIP}", "-n", "web", "service", "low")
    assert answer_at(f"http://{address}:8888/") == "who are you?\n"


HOST_PORTS = """
import os, socket, threading

own = os.environ["KUBECORE_POD_IP"]
packets = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
packets.bind((own, 28095))

def echo():
    while True:
        packet, sender = packets.recvfrom(100)
        packets.sendto(b"packet " + packet, sender)

def serve(port):
    listener = socket.create_server((own, port))
    while True:
        client, _ = listener.accept()
        client.sendall(str(port).encode())
        client.close()

threading.Thread(target=echo, daemon=True).start()
threading.Thread(target=serve, args=(28093,), daemon=True).start()
serve(28092)
"""


def test_host_ports_lead_to_a_pod_which_may_have_the_same_at_its_own_address(cluster: Running) -> None:
    ports = [
        {"containerPort": 28092, "hostPort": 28091},
        {"containerPort": 28093, "hostPort": 28093},
        {"containerPort": 28095, "hostPort": 28094, "protocol": "UDP"},
        {"containerPort": 28092, "hostPort": 80},
    ]
    container = {"name": "main", "image": "none", "command": ["python3", "-c", HOST_PORTS], "ports": ports}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "host-ports"}, "spec": {"containers": [container]}}
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    cluster.kubectl("wait", "pod", "host-ports", "--for=condition=Ready", "--timeout=30s", timeout=60)
    low = ("{.items[*].message}", "events", "--field-selector=reason=HostPortNotServed")
    assert answer(cluster.node_address, 28091) == b"28092"
    assert answer(cluster.node_address, 28093) == b"28093"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(30)
        asking.connect((cluster.node_address, 28094))
        asking.send(b"here")
        assert asking.recv(100) == b"packet here"
    if FIRST_FREE_PORT > 80:
        needs = f"ports below {FIRST_FREE_PORT} need root or CAP_NET_BIND_SERVICE here"
        deadline = time.monotonic() + 60
        while needs not in (told := cluster.value(*low)):
            assert time.monotonic() < deadline, told
        assert "host port TCP 80: cannot listen on" in told
    cluster.kubectl("delete", "pod", "host-ports", "--grace-period=1", "--wait", timeout=60)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((cluster.node_address, 28091), timeout=30)


def answer(address: str, port: int) -> bytes:
    """What is said first; who comes before the process listens, or is seen to, comes again."""
    between = threading.Event()
    for _ in range(300):
        try:
            with socket.create_connection((address, port), timeout=30) as connection:
                if said := connection.recv(100):
                    return said
        except OSError:
            pass
        between.wait(0.1)
    pytest.fail(f"nobody answers at {address}:{port}")


def test_a_second_cluster_beside_it_has_addresses_of_its_own(cluster: Running, somebody: User) -> None:
    with up(somebody, "second") as second:
        second.example()
        assert second.node_address != cluster.node_address
        for running in (cluster, second):
            path = "{.items[*].metadata.name}"
            theirs = running.value(path, "-n", "web", "pods", "-l", "app=backend").split()
            port = running.value("{.spec.ports[0].nodePort}", "-n", "web", "service", "frontend")
            assert answer_at(f"http://{running.node_address}:{port}/").split()[-1] in theirs


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


def test_sigterm_ends_it_within_five_seconds_with_status_0_and_no_process_left(somebody: User) -> None:
    marker = f"5{os.getpid()}1"
    with up(somebody, "ending") as running:
        running.example()
        linger(running, marker)
        pods = descendants(running.command.process.pid)
        assert len(pods) >= 5 + 2
        assert running.command.stop_within(5) == 0
        left = {pid for pid, _, _ in living()}
        assert left.isdisjoint(pods)
        assert with_argument(marker) == []


def test_pods_of_a_killed_run_go_on_and_are_taken_over_by_the_next_start(somebody: User) -> None:
    marker = f"5{os.getpid()}2"
    ids = "{.items[*].status.containerStatuses[*].containerID}"
    with up(somebody, "killed") as running:
        linger(running, marker)
        old, containers = with_argument(marker), running.value(ids, "pods")
        running.command.stop(number=signal.SIGKILL)
        assert with_argument(marker) == old
    with up(somebody, "killed") as running:
        running.kubectl(
            "wait", "pod", "lingering", "in-host-pids", "--for=condition=Ready", "--timeout=180s", timeout=60
        )
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
