"""`kubecore up --pod-network rootless` by a user without any rights: pods have network namespaces of their own."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from tests.support.asking import answer_at
from tests.support.host_addresses import outer_address
from tests.support.kubectl import Answer
from tests.support.ports import free_port
from tests.support.process import PATIENCE
from tests.support.rootless import NOBODY_ELSE, ROOTLESS, fixtures, rootless_user, trouble
from tests.support.unprivileged import User
from tests.support.unprivileged_cluster import Running, up

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SERVE = ["python3", "-u", "-m", "http.server", "8000"]
LISTENS = ["python3", "-c", "import socket; socket.create_connection(('127.0.0.1', 8000)).close()"]


somebody, cluster = fixtures("rootless", Running.example)


@pytest.fixture(scope="module")
def no_way_out(somebody: User) -> str:
    """Why pods reach nothing outside here; "" if they do."""
    return trouble(somebody, "way_out")


@pytest.fixture
def way_out(no_way_out: str) -> None:
    if no_way_out:
        pytest.skip(no_way_out)


def serve(cluster: Running, name: str, *, options: tuple[str, ...] = (), **spec: object) -> None:
    """A pod that answers at port 8000 with what its folder holds: its own name."""
    script = f"mkdir -p /tmp/{name}; cd /tmp/{name}; echo {name} > name; exec {' '.join((*SERVE, *options))}"
    probe = {"exec": {"command": LISTENS}, "periodSeconds": 1, "timeoutSeconds": 60}
    container = {"name": "main", "image": "none", "command": ["/bin/sh", "-c", script], "readinessProbe": probe}
    container |= spec.pop("container", {})  # type: ignore[call-overload]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container], **spec},
    }
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    cluster.kubectl("wait", "pod", name, "--for=condition=Ready", "--timeout=180s")


def test_the_user_and_the_node_tell_the_mode_and_what_it_lacks(cluster: Running, no_way_out: str) -> None:
    lacks = f"; nothing leads out of it but to Services: {no_way_out}" if no_way_out else ""
    assert "kubecore: pod network rootless: every pod has a network namespace" in cluster.command.errors
    assert "the API server's proxy lead into it; Services have" in cluster.command.errors
    assert f"{lacks}\n" in cluster.command.errors
    annotation = "{.items[0].metadata.annotations.kubecore\\.dev/%s}"
    assert cluster.value(annotation % "network-mode", "nodes") == "rootless"
    assert cluster.value(annotation % "network", "nodes").endswith(f"the API server's proxy lead into it{lacks}")


def test_the_front_end_answers_at_its_node_port_on_the_host(cluster: Running) -> None:
    port = cluster.value("{.spec.ports[0].nodePort}", "-n", "web", "service", "frontend")
    assert "heard: hello from the back end, by pod backend-" in answer_at(f"http://127.0.0.1:{port}/")


def test_pods_reach_services_by_name_and_node_ports_at_the_node(cluster: Running) -> None:
    port = cluster.value("{.spec.ports[0].nodePort}", "-n", "web", "service", "frontend")
    said = cluster.pod(
        "asking",
        f"""
        import ssl, urllib.request
        folder = "/var/run/secrets/kubernetes.io/serviceaccount"
        trusted = ssl.create_default_context(cafile=folder + "/ca.crt")
        token = {{"Authorization": "Bearer " + open(folder + "/token").read()}}
        request = urllib.request.Request("https://kubernetes.default.svc/api/v1", headers=token)
        print(urllib.request.urlopen(request, context=trusted, timeout=60).status)
        for host in ("frontend.web:8080", "{cluster.node_address}:{port}"):
            print(urllib.request.urlopen("http://" + host, timeout=60).read().decode().split()[1])
        """,
    )
    assert said.split("\n") == ["200", "heard:", "heard:", ""]


ASKS_OUTSIDE = """
    import socket
    with socket.create_connection(("{host}", {tcp}), timeout=60) as connection:
        connection.sendall(b"who")
        connection.shutdown(socket.SHUT_WR)
        print(connection.makefile().read())
    with socket.socket(type=socket.SOCK_DGRAM) as packets:
        packets.settimeout(60)
        packets.sendto(b"who", ("{host}", {udp}))
        print(packets.recv(100).decode())
"""


@contextmanager
def outside(host: str) -> Iterator[tuple[int, int]]:
    """A program of the host's that tells by TCP and UDP whom it sees; its ports."""
    with socket.create_server((host, 0)) as listener, socket.socket(type=socket.SOCK_DGRAM) as packets:
        packets.bind((host, 0))
        servers = [
            threading.Thread(target=one, daemon=True) for one in (partial(greet, listener), partial(tell, packets))
        ]
        for server in servers:
            server.start()
        try:
            yield listener.getsockname()[1], packets.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            with socket.socket(type=socket.SOCK_DGRAM) as last:
                last.sendto(b"", packets.getsockname())
            for server in servers:
                server.join()


def greet(listener: socket.socket) -> None:
    with suppress(OSError):  # shut down
        while True:
            connection, (address, _) = listener.accept()
            with connection:
                connection.sendall(address.encode() + b" " + connection.makefile("rb").read())


def tell(packets: socket.socket) -> None:
    while True:
        said, client = packets.recvfrom(100)
        if not said:
            return
        packets.sendto(client[0].encode() + b" " + said, client)


@pytest.mark.usefixtures("way_out")
@pytest.mark.parametrize("of_host", [False, True], ids=["a pod", "a pod with the host's network"])
def test_pods_reach_programs_outside_and_are_taken_for_the_host(cluster: Running, of_host: bool) -> None:
    host = outer_address()
    with outside(host) as (tcp, udp):
        script = ASKS_OUTSIDE.format(host=host, tcp=tcp, udp=udp)
        said = cluster.pod(f"out-{of_host}".lower(), script, hostNetwork=of_host)
    assert said.split("\n") == [f"{host} who"] * 2 + [""]


@pytest.mark.usefixtures("way_out")
def test_pods_do_not_reach_the_hosts_loopback_nor_whom_nobody_takes(cluster: Running) -> None:
    with outside("127.0.0.1") as (tcp, _), socket.socket() as held:
        held.bind((outer_address(), 0))  # and does not listen
        places = [("127.0.0.1", tcp), (cluster.node_address, tcp), held.getsockname()]
        said = cluster.pod(
            "shut-out",
            f"""
            import socket
            for place in {places}:
                try:
                    with socket.create_connection(place, timeout=60) as connection:
                        print(connection.recv(100))
                except ConnectionError as error:
                    print(error.strerror)
            """,
        )
    refused, reset = "Connection refused", "Connection reset by peer"
    assert said.split("\n") == [refused, refused, reset, ""]


def test_the_destination_of_a_service_sees_the_pod_that_asks(cluster: Running) -> None:
    serve(cluster, "seeing")
    cluster.kubectl("expose", "pod", "seeing", "--port=80", "--target-port=8000")
    cluster.led_to("seeing")
    ask = """
        import os, urllib.request
        urllib.request.urlopen("http://seeing/name", timeout=60)
        print(os.environ["KUBECORE_POD_IP"])
    """
    address = cluster.pod("seen", ask).strip()
    with cluster.kubectl.running("logs", "seeing", "--follow", stdout=subprocess.PIPE) as logs:
        assert logs.stdout is not None
        line = next(line for line in logs.stdout if b"GET /name" in line)
    assert line.startswith(f"{address} - - ".encode())


def test_two_pods_listen_at_the_same_port_and_are_told_apart_by_the_api_servers_proxy(cluster: Running) -> None:
    for name in ("one", "other"):
        live = {"tcpSocket": {"port": 8000}, "periodSeconds": 1, "timeoutSeconds": 60, "failureThreshold": 60}
        serve(cluster, name, container={"livenessProbe": live, "startupProbe": live})
        path = f"/api/v1/namespaces/default/pods/{name}:8000/proxy/name"
        assert cluster.kubectl("get", "--raw", path) == f"{name}\n"
    assert cluster.value("{.items[*].status.containerStatuses[*].restartCount}", "pods").strip("0 ") == ""


def eventually(cluster: Running, *arguments: str) -> Answer:
    """What kubectl says once it succeeds: a program takes a moment until it listens."""
    ends = time.monotonic() + PATIENCE
    while (answer := cluster.kubectl.run(*arguments)).status:
        assert time.monotonic() < ends, answer
    return answer


@pytest.mark.parametrize("options", [(), ("--bind", "127.0.0.1")], ids=["everywhere", "on its loopback"])
def test_port_forward_leads_to_what_a_pod_listens_at(cluster: Running, options: tuple[str, ...]) -> None:
    name = f"forwarded-{len(options)}"
    serve(cluster, name, options=options)
    with cluster.forwarded(f"pod/{name}", 8000) as port:
        assert answer_at(f"http://127.0.0.1:{port}/name") == f"{name}\n"
    assert cluster.kubectl("exec", name, "--", "cat", f"/tmp/{name}/name") == f"{name}\n"


def test_a_host_port_leads_to_its_pod_from_the_host_and_from_pods(cluster: Running) -> None:
    port = free_port()
    serve(cluster, "hosted", container={"ports": [{"containerPort": 8000, "hostPort": port}]})
    assert answer_at(f"http://127.0.0.1:{port}/name") == "hosted\n"
    ask = f"import urllib.request as r; print(r.urlopen('http://{cluster.node_address}:{port}/name').read().decode())"
    assert cluster.pod("at-the-node", ask).strip() == "hosted"


def test_a_pod_with_the_hosts_network_is_in_the_nodes_where_the_bridge_is(cluster: Running) -> None:
    probe = {"readinessProbe": {"httpGet": {"port": 8000, "path": "/name"}, "periodSeconds": 1}}
    serve(cluster, "on-the-node", hostNetwork=True, container=probe)
    assert cluster.value("{.status.podIP}", "pod", "on-the-node") == cluster.node_address
    seen = cluster.kubectl("exec", "on-the-node", "--", "sh", "-c", "ls /sys/class/net; cat /proc/net/route")
    assert "kc-" in cluster.kubectl("exec", "on-the-node", "--", "cat", "/proc/net/dev"), seen
    ask = f"import urllib.request as r; print(r.urlopen('http://{cluster.node_address}:8000/name').read().decode())"
    assert cluster.pod("asks-the-node", ask).strip() == "on-the-node"
    with cluster.forwarded("pod/on-the-node", 8000) as port:
        assert answer_at(f"http://127.0.0.1:{port}/name") == "on-the-node\n"
    cluster.kubectl("delete", "pod", "on-the-node", "--grace-period=0", "--force")


def test_an_ingress_leads_from_the_host_to_pods(somebody: User) -> None:
    port = free_port()
    with up(somebody, "ingress", *ROOTLESS, "--ingress-http-port", str(port)) as running:
        serve(running, "behind")
        running.kubectl("expose", "pod", "behind", "--port=80", "--target-port=8000")
        running.kubectl("create", "ingress", "web", "--rule=/name*=behind:80")
        served = "--for=jsonpath={.status.loadBalancer.ingress[0].ip}=127.0.0.1"
        running.kubectl("wait", "ingress/web", served, "--timeout=180s")
        assert answer_at(f"http://127.0.0.1:{port}/name") == "behind\n"


def test_pods_of_several_nodes_reach_each_other(somebody: User) -> None:
    with up(somebody, "several", *ROOTLESS, "--nodes", "2") as running:
        nodes = running.value("{.items[*].metadata.name}", "nodes").split()
        serve(running, "far", nodeName=nodes[0])
        address = running.value("{.status.podIP}", "pod", "far")
        ask = f"import urllib.request as r; print(r.urlopen('http://{address}:8000/name', timeout=60).read().decode())"
        assert running.pod("near", ask, nodeName=nodes[1]).strip() == "far"


@pytest.fixture
def nobody_else() -> Iterator[User]:
    """Whose processes are those of the test alone, where root runs it: others run clusters as `somebody`."""
    with rootless_user(NOBODY_ELSE) as found:
        yield found


def test_pods_of_a_killed_run_keep_their_network_and_nothing_is_left_at_the_end(
    nobody_else: User, no_way_out: str
) -> None:
    path = "{.items[*].status.podIP}"
    with up(nobody_else, "killed", *ROOTLESS) as running:
        serve(running, "kept")
        address, pods = running.value(path, "pods"), networks(nobody_else)
        running.command.stop(number=signal.SIGKILL)
        assert networks(nobody_else) == pods
    with up(nobody_else, "killed") as running:
        assert running.value(path, "pods") == address
        raw = "/api/v1/namespaces/default/pods/kept:8000/proxy/name"
        assert eventually(running, "get", "--raw", raw).output == "kept\n"
        assert running.value("{.items[*].status.containerStatuses[*].restartCount}", "pods") == "0"
        ask = f"import urllib.request as r; print(r.urlopen('http://{address}:8000/name', timeout=60).read().decode())"
        assert running.pod("newcomer", ask).strip() == "kept"
        if not no_way_out:
            assert_leads_out(running, "kept")
    assert len(pods) == 1
    assert networks(nobody_else) == set()
    assert list((running.data_dir / "nodes").glob("*/network.sock")) == []


def assert_leads_out(running: Running, pod: str) -> None:
    host = outer_address()
    with outside(host) as (tcp, udp):
        script = textwrap.dedent(ASKS_OUTSIDE.format(host=host, tcp=tcp, udp=udp))
        said = running.kubectl("exec", pod, "--", "python3", "-c", script)
    assert said.split("\n") == [f"{host} who"] * 2 + [""]


def networks(user: User) -> set[Path]:
    """Network namespaces of all processes of that user but the host's, which is ours."""
    host, found = Path("/proc/self/ns/net").readlink(), set()
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            told = next(line for line in (entry / "status").read_text().splitlines() if line.startswith("Uid:"))
            if int(told.split()[1]) == user.uid:
                found.add((entry / "ns" / "net").readlink())
    return found - {host}
