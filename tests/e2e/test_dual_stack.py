"""Whole clusters of both address families, and of IPv6 alone, each on a host of its own: a network namespace."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kubecore.netlink import ipv6_trouble
from kubecore.proxy.modes import unavailable
from tests.support.dns_client import ask
from tests.support.kubectl import Kubectl, program
from tests.support.net_world import Namespace
from tests.support.process import running_cluster

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(ipv6_trouble()), reason=ipv6_trouble()),
]

PATIENCE = 180.0
"""Seconds: DNS and the proxy hear of everything a moment after the API."""
PODS = 2

# Says who it is and whom it sees, at all addresses of both families. One thread: what matters is who is reached.
SERVER = """
import http.server, os, socket

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{socket.gethostname()} {self.client_address[0].removeprefix('::ffff:')} {os.environ['IPS']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    request_queue_size = 64

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

Server(("::", 8080), Handler).serve_forever()
"""
# Asks by names and variables alone, and prints one line for each answer.
CLIENT = """
import json, os, socket, ssl, time, urllib.request

def look_up(name, family):
    return sorted({one[4][0] for one in socket.getaddrinfo(name, None, family, socket.SOCK_STREAM)})

def get(address, port):
    host = f"[{address}]" if ":" in address else address
    with urllib.request.urlopen(f"http://{host}:{port}/", timeout=30) as answer:
        return answer.read().decode().split()

def look_up_all(name, family):
    # DNS hears of each pod a moment after the API shows it ready
    while len(found := look_up(name, family)) < int(os.environ["PODS"]):
        time.sleep(0.1)
    return found

families = {"IPv4": socket.AF_INET, "IPv6": socket.AF_INET6}
told = {}
for family in os.environ["FAMILIES"].split(","):
    (address,) = look_up("app", families[family])
    told[family] = {"app": get(address, 80)[0], "headless": look_up_all("headless", families[family])}
api = os.environ["KUBERNETES_SERVICE_HOST"]
told["api"] = api
host = f"[{api}]" if ":" in api else api
context = ssl.create_default_context(cafile="/var/run/secrets/kubernetes.io/serviceaccount/ca.crt")
url = f"https://{host}:{os.environ['KUBERNETES_SERVICE_PORT']}/version"
told["version"] = json.load(urllib.request.urlopen(url, timeout=30, context=context))["minor"]
print(json.dumps(told))
"""


@pytest.fixture
def host(newest_kubectl: Path) -> Iterator[None]:
    """Everything that is started meanwhile is on a host of its own, on which it leaves no link."""
    namespace = Namespace()
    with namespace.here():
        before = links()
        yield
        assert links() == before
    namespace.close()


def links() -> str:
    return subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True, timeout=60).stdout


class Cluster:
    def __init__(self, kubectl: Kubectl) -> None:
        self.kubectl = kubectl

    def apply(self, *objects: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def get(self, *what: str) -> Any:
        return self.kubectl.json("get", *what)

    def run_app(self) -> None:
        self.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=180s")
        self.apply(*app_objects())
        self.kubectl("rollout", "status", "deployment/app", "--timeout=180s")

    def ask_from_a_pod(self, families: list[str]) -> Any:
        """What the client program finds out."""
        asked = {"FAMILIES": ",".join(families), "PODS": str(PODS)}
        variables = [{"name": name, "value": value} for name, value in asked.items()]
        self.apply(pod_object("client", "client.py", env=variables))
        done = "--for=jsonpath={.status.phase}=Succeeded"
        self.kubectl("wait", done, "pod/client", "--timeout=180s")
        return json.loads(self.kubectl("logs", "client"))


@contextmanager
def cluster(directory: Path, *options: str) -> Iterator[Cluster]:
    kubectl = program("1.37")  # `host` has had it fetched
    assert kubectl is not None
    with running_cluster(directory / "data", *options) as running:
        yield Cluster(Kubectl(kubectl, running.kubeconfig, directory))


def container(file: str, **fields: Any) -> dict[str, Any]:
    volume = [{"name": "programs", "mountPath": "/programs"}]
    return {
        "name": "main",
        "image": "none",
        "command": ["python3", f"/programs/{file}"],
        "volumeMounts": volume,
        **fields,
    }


def pod_spec(file: str, **fields: Any) -> dict[str, Any]:
    volume = {"name": "programs", "configMap": {"name": "programs"}}
    return {"containers": [container(file, **fields)], "volumes": [volume]}


def pod_object(name: str, file: str, **fields: Any) -> dict[str, Any]:
    spec = {"restartPolicy": "OnFailure", **pod_spec(file, **fields)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def app_objects() -> list[dict[str, Any]]:
    programs = {"server.py": SERVER, "client.py": CLIENT}
    labels = {"app": "app"}
    served = pod_spec(
        "server.py",
        env=[{"name": "IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}}],
        readinessProbe={"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
    )
    template = {"metadata": {"labels": labels}, "spec": served}
    deployment = {"replicas": PODS, "selector": {"matchLabels": labels}, "template": template}
    both = {"ipFamilyPolicy": "PreferDualStack", "selector": labels}
    port = {"port": 80, "targetPort": 8080}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "programs"}, "data": programs},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app"}, "spec": deployment},
        service_object("app", type="NodePort", ports=[port], **both),
        service_object("headless", clusterIP="None", ports=[{"port": 8080}], **both),
        service_object("single", ports=[port], selector=labels),
    ]


def service_object(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def get(address: str, port: int) -> list[str]:
    """Who answers, whom it sees, and its own addresses."""
    shown = f"[{address}]" if ":" in address else address
    ends = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(f"http://{shown}:{port}/", timeout=30) as answer:
                return str(answer.read().decode()).split()
        except OSError:
            if time.monotonic() > ends:
                raise


def get_from_all(address: str, port: int, count: int) -> list[list[str]]:
    """The answers, once so many endpoints have given one."""
    found: dict[str, list[str]] = {}
    ends = time.monotonic() + PATIENCE
    while len(found) < count:
        assert time.monotonic() < ends, f"only {list(found)} have answered"
        answer = get(address, port)
        found[answer[0]] = answer
    return list(found.values())


def told_by_dns(server: str, name: str, kind: str, count: int) -> list[str]:
    """What DNS says of the name, once it knows so many addresses."""
    ends = time.monotonic() + PATIENCE
    while len(found := ask((server, 53), f"{name}.default.svc.cluster.local", kind).values(kind)) != count:
        assert time.monotonic() < ends, f"{name} has {found}"
    return found


def node_addresses(node: Any) -> list[str]:
    return [one["address"] for one in node["status"]["addresses"] if one["type"] == "InternalIP"]


@pytest.mark.usefixtures("host")
def test_both_families(tmp_path: Path) -> None:
    """Pods and nodes have two addresses, Services of both families are reached at both, from pods by name and from the
    node at node ports; a Service becomes one of both and of one again; nothing is left at the end."""
    with cluster(tmp_path, "--ip-family", "dual") as here:
        here.run_app()
        (node,) = here.get("nodes")["items"]
        assert [":" in one for one in node["spec"]["podCIDRs"]] == [False, True]
        hosts = node_addresses(node)
        assert [":" in one for one in hosts] == [False, True]
        pods = here.get("pods", "-l", "app=app")["items"]
        ips = {pod["metadata"]["name"]: [one["ip"] for one in pod["status"]["podIPs"]] for pod in pods}
        assert all([":" in one for one in each] == [False, True] for each in ips.values())
        assert [one["ip"] for one in pods[0]["status"]["hostIPs"]] == hosts
        _reached_at_both(here, hosts, ips)
        told = here.ask_from_a_pod(["IPv4", "IPv6"])
        assert told["IPv4"]["headless"] == sorted(each[0] for each in ips.values())
        assert told["IPv6"]["headless"] == sorted(each[1] for each in ips.values())
        assert {told[family]["app"] for family in ("IPv4", "IPv6")} <= set(ips)
        assert (told["api"], told["version"]) == (here.get("service", "kubernetes")["spec"]["clusterIP"], "35")
        _a_second_address_comes_and_goes(here)


def _reached_at_both(here: Cluster, hosts: list[str], ips: dict[str, list[str]]) -> None:
    spec = here.get("service", "app")["spec"]
    assert spec["ipFamilies"] == ["IPv4", "IPv6"]
    for index, address in enumerate(spec["clusterIPs"]):
        answers = get_from_all(address, 80, len(ips))
        assert all(seen == hosts[index] and given == ",".join(ips[name]) for name, seen, given in answers)
        assert get(hosts[index], spec["ports"][0]["nodePort"])[0] in ips
    dns = here.get("service", "kube-dns", "-n", "kube-system")["spec"]["clusterIPs"]
    assert [":" in one for one in dns] == [False, True]
    for server in dns:
        assert told_by_dns(server, "app", "AAAA", 1) == spec["clusterIPs"][1:]
        for index, kind in enumerate(("A", "AAAA")):
            assert told_by_dns(server, "headless", kind, len(ips)) == sorted(each[index] for each in ips.values())


def _a_second_address_comes_and_goes(here: Cluster) -> None:
    (first,) = here.get("service", "single")["spec"]["clusterIPs"]
    balanced = '{"spec":{"ipFamilyPolicy":"RequireDualStack","type":"LoadBalancer"}}'
    here.kubectl("patch", "service", "single", "-p", balanced)
    first_again, second = here.get("service", "single")["spec"]["clusterIPs"]
    assert first_again == first
    here.kubectl("wait", "--for=create", f"ipaddress/{second}", "--timeout=180s")
    assert get(second, 80)
    both = "--for=jsonpath={.status.loadBalancer.ingress[1].ip}"
    here.kubectl("wait", both, "service/single", "--timeout=180s")
    balanced_at = [one["ip"] for one in here.get("service", "single")["status"]["loadBalancer"]["ingress"]]
    assert [":" in one for one in balanced_at] == [False, True]
    assert all(get(one, 80) for one in balanced_at)
    here.kubectl("patch", "service", "single", "-p", '{"spec":{"ipFamilyPolicy":"SingleStack"}}')
    assert here.get("service", "single")["spec"]["clusterIPs"] == [first]
    assert get(first, 80)


@pytest.mark.usefixtures("host")
@pytest.mark.skipif(bool(unavailable("nftables")), reason=unavailable("nftables"))
def test_ipv6_alone_in_mode_nftables(tmp_path: Path) -> None:
    """Pods are reached and reach the API by IPv6 only, and endpoints see their clients."""
    options = ("--service-cidr", "fd00:7::/112", "--pod-cidr", "fd00:8::/56", "--proxy-mode", "nftables")
    with cluster(tmp_path, *options) as here:
        here.run_app()
        (node,) = here.get("nodes")["items"]
        assert (node_addresses(node), node["spec"]["podCIDRs"]) == (["fd00:8::1"], ["fd00:8::/64"])
        spec = here.get("service", "app")["spec"]
        assert (spec["ipFamilies"], spec["clusterIPs"][0].startswith("fd00:7::")) == (["IPv6"], True)
        name, seen, _ = get(spec["clusterIPs"][0], 80)
        assert name.startswith("app-") and seen == "fd00:8::1"
        assert get("fd00:8::1", spec["ports"][0]["nodePort"])[0].startswith("app-")
        told = here.ask_from_a_pod(["IPv6"])
        assert (told["api"], told["version"]) == ("fd00:7::1", "35")
        assert all(one.startswith("fd00:8::") for one in told["IPv6"]["headless"])
