"""Names of Services as pods and the host look them up, in every mode of the pod network."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.dns_client import Answer, Record, ask
from tests.support.kubectl import Kubectl, program
from tests.support.process import ROOT, RunningCluster, running_cluster
from tests.support.unprivileged_cluster import LOOPBACK

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(900)]

DOMAIN = "cluster.local"
HTTP = {"name": "http", "port": 8080}

# Inside of a pod: /resolve?name= asks the C library, /dns?name=&type= the name server of resolv.conf,
# /fetch?url= another Service, /file?path= shows a file.
PROBE = """
import http.server, json, os, socket, sys, urllib.parse, urllib.request
from dataclasses import asdict

sys.path.insert(0, "/programs")
import dns_client

def resolve(name):
    try:
        return sorted({found[4][0] for found in socket.getaddrinfo(name, None, socket.AF_INET)})
    except socket.gaierror as error:
        return str(error)

ACTIONS = {
    "/resolve": lambda name: resolve(name),
    "/dns": lambda name, type: asdict(dns_client.ask((dns_client.name_servers()[0], 53), name, type)),
    "/fetch": lambda url: urllib.request.urlopen(url, timeout=60).read().decode(),
    "/file": lambda path: open(path).read(),
    "/whoami": lambda: os.environ["POD_NAME"],
}

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked = urllib.parse.urlsplit(self.path)
        body = json.dumps(ACTIONS[asked.path](**dict(urllib.parse.parse_qsl(asked.query)))).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.ThreadingHTTPServer((os.environ["POD_IP"], 8080), Handler).serve_forever()
"""


def deployment(name: str, replicas: int, **pod: Any) -> dict[str, Any]:
    fields = {"POD_IP": "status.podIP", "POD_NAME": "metadata.name"}
    container = {
        "name": "probe",
        "image": "python:3",
        "command": ["python3", "/programs/probe.py"],
        "env": [{"name": key, "valueFrom": {"fieldRef": {"fieldPath": path}}} for key, path in fields.items()],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
        "volumeMounts": [{"name": "programs", "mountPath": "/programs"}],
    }
    volumes = [{"name": "programs", "configMap": {"name": "programs"}}]
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container], "volumes": volumes, **pod}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def service(name: str, app: str = "", **spec: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"ports": [HTTP], **spec}
    if app:
        body["selector"] = {"app": app}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": body}


def objects() -> list[dict[str, Any]]:
    programs = {"probe.py": PROBE, "dns_client.py": (ROOT / "tests/support/dns_client.py").read_text()}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "programs"}, "data": programs},
        deployment("web", 2, hostname="pet", subdomain="peers"),
        deployment("client", 1),
        service("web", "web"),
        service("client", "client"),
        service("peers", "web", clusterIP="None"),
        service("alias", type="ExternalName", externalName=f"web.shop.svc.{DOMAIN}"),
    ]


@dataclass
class Shop:
    """A cluster with two Deployments and their Services in namespace shop."""

    cluster: RunningCluster
    kubectl: Kubectl
    network: str

    def apply(self) -> None:
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(space))
        self.kubectl("-n", "shop", "apply", "-f", "-", stdin=yaml.safe_dump_all(objects()))
        for name in ("web", "client"):
            self.kubectl("-n", "shop", "rollout", "status", f"deployment/{name}", "--timeout=180s")

    def pod_ips(self, app: str) -> list[str]:
        pods = self.kubectl.json("-n", "shop", "get", "pods", "-l", f"app={app}")["items"]
        return sorted(pod["status"]["podIP"] for pod in pods)

    def cluster_ip(self, name: str, namespace: str = "shop") -> str:
        address: str = self.kubectl.json("-n", namespace, "get", "service", name)["spec"]["clusterIP"]
        return address

    def in_pod(self, action: str, **arguments: str) -> Any:
        (address,) = self.pod_ips("client")
        url = f"http://{address}:8080/{action}?{urllib.parse.urlencode(arguments)}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            return json.load(answer)

    def ask_in_pod(self, name: str, kind: str = "A") -> Answer:
        found = self.in_pod("dns", name=name, type=kind)
        return Answer(found["code"], *([Record(**one) for one in found[part]] for part in ("records", "additional")))


@contextmanager
def corp_resolver() -> Iterator[str]:
    """A name server that knows every address record: 192.0.2.7. Its address with port."""

    def serve() -> None:
        while True:
            wire, client = listener.recvfrom(4096)
            if not wire:
                return
            record = b"\xc0\x0c" + struct.pack("!2HIH", 1, 1, 60, 4) + bytes([192, 0, 2, 7])
            end = wire.index(b"\0", 12) + 5
            listener.sendto(wire[:2] + struct.pack("!5H", 0x8180, 1, 1, 0, 0) + wire[12:end] + record, client)

    with socket.socket(type=socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            with socket.socket(type=socket.SOCK_DGRAM) as end:
                end.sendto(b"", listener.getsockname())
            thread.join()


@pytest.fixture(scope="module", params=["netns", "loopback"])
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with (
        corp_resolver() as corp,
        running_cluster(
            tmp_path_factory.mktemp("data"),
            *("--pod-network", request.param, "--dns-autopath", "--dns-stub-domain", f"corp.example={corp}"),
        ) as cluster,
    ):
        found = program("1.37")
        assert found is not None
        made = Shop(cluster, Kubectl(found, cluster.kubeconfig, tmp_path_factory.mktemp("home")), request.param)
        made.apply()
        yield made


def test_the_dns_service_is_where_it_says(shop: Shop) -> None:
    found = shop.kubectl.json("-n", "kube-system", "get", "service", "kube-dns")
    assert [(one["name"], one["protocol"], one["port"]) for one in found["spec"]["ports"]] == [
        ("dns", "UDP", 53),
        ("dns-tcp", "TCP", 53),
    ]
    assert found["metadata"]["labels"]["k8s-app"] == "kube-dns"
    slices = shop.kubectl.json(
        "-n", "kube-system", "get", "endpointslices", "-l", "kubernetes.io/service-name=kube-dns"
    )
    (endpoint,) = slices["items"][0]["endpoints"]
    address = found["spec"]["clusterIP"]
    assert address.endswith(".10")
    for where in (address, endpoint["addresses"][0]):
        for tcp in (False, True):
            assert ask((where, 53), f"kube-dns.kube-system.svc.{DOMAIN}", tcp=tcp).values() == [address]


@pytest.mark.skipif(shutil.which("dig") is None, reason="no dig on this machine")
def test_dig_finds_a_service(shop: Shop) -> None:
    server = shop.cluster_ip("kube-dns", "kube-system")
    for options in (["+notcp"], ["+tcp"]):
        command = ["dig", "+short", "+time=20", *options, f"@{server}", f"web.shop.svc.{DOMAIN}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        assert done.stdout.split() == [shop.cluster_ip("web")]


def test_a_pods_resolv_conf_leads_to_it(shop: Shop) -> None:
    text = shop.in_pod("file", path="/etc/resolv.conf")
    assert f"nameserver {shop.cluster_ip('kube-dns', 'kube-system')}\n" in text
    assert text.startswith(f"search shop.svc.{DOMAIN} svc.{DOMAIN} {DOMAIN}")
    assert "options ndots:5" in text
    assert "web" not in shop.in_pod("file", path="/etc/hosts")


@pytest.mark.parametrize("name", ["web", "web.shop", "web.shop.svc", f"web.shop.svc.{DOMAIN}", "alias", "WEB.Shop"])
def test_a_pod_finds_a_service_by_every_form_of_its_name(shop: Shop, name: str) -> None:
    assert shop.in_pod("resolve", name=name) == [shop.cluster_ip("web")]


def test_a_pod_finds_services_of_other_namespaces(shop: Shop) -> None:
    assert shop.in_pod("resolve", name="kubernetes.default") == [shop.cluster_ip("kubernetes", "default")]
    # a dot at the end keeps the resolver from asking the world for what the cluster does not have
    assert shop.in_pod("resolve", name=f"kubernetes.shop.svc.{DOMAIN}.").startswith("[Errno -2]")


def test_what_a_name_leads_to_answers(shop: Shop) -> None:
    assert json.loads(shop.in_pod("fetch", url="http://web:8080/whoami")).startswith("web-")


def test_a_headless_service_leads_to_its_pods_and_they_have_names(shop: Shop) -> None:
    pods = shop.pod_ips("web")
    assert shop.in_pod("resolve", name="peers") == pods
    assert shop.in_pod("resolve", name="pet.peers") == pods
    assert shop.in_pod("resolve", name=f"{pods[0].replace('.', '-')}.shop.pod.{DOMAIN}") == pods[:1]
    reverse = ".".join(reversed(pods[0].split("."))) + ".in-addr.arpa"
    own = f"{pods[0].replace('.', '-')}.web.shop.svc.{DOMAIN}."
    assert shop.ask_in_pod(reverse, "PTR").values() == sorted([f"pet.peers.shop.svc.{DOMAIN}.", own])


def test_ports_have_service_records(shop: Shop) -> None:
    web = f"web.shop.svc.{DOMAIN}"
    found = shop.ask_in_pod(f"_http._tcp.{web}", "SRV")
    assert found.values() == [f"0 100 8080 {web}."]
    assert [one.value for one in found.additional] == [shop.cluster_ip("web")]
    peers = shop.ask_in_pod(f"_http._tcp.peers.shop.svc.{DOMAIN}", "SRV")
    assert peers.values() == [f"0 100 8080 pet.peers.shop.svc.{DOMAIN}."]
    assert sorted(one.value for one in peers.additional) == shop.pod_ips("web")


def test_names_of_a_stub_domain_are_asked_of_its_resolver(shop: Shop) -> None:
    assert shop.ask_in_pod("db.corp.example").values("A") == ["192.0.2.7"]


def test_the_first_query_of_a_search_finds_a_name_outside_the_cluster(shop: Shop) -> None:
    first = f"db.corp.example.shop.svc.{DOMAIN}"
    answer = shop.ask_in_pod(first)
    if shop.network == "loopback":  # pods have their host's address: nobody knows who asks
        assert answer.code == "NXDOMAIN"
        return
    assert [(one.name, one.type, one.value) for one in answer.records] == [
        (f"{first}.", "CNAME", "db.corp.example."),
        ("db.corp.example.", "A", "192.0.2.7"),
    ]


def test_a_service_deleted_does_not_exist_at_once(shop: Shop) -> None:
    name = f"short.shop.svc.{DOMAIN}"
    assert shop.ask_in_pod(name).code == "NXDOMAIN"
    shop.kubectl("-n", "shop", "apply", "-f", "-", stdin=yaml.safe_dump(service("short")))
    assert before_a_ttl_is_over(lambda: shop.ask_in_pod(name).code == "NOERROR")
    assert shop.in_pod("resolve", name="short") == [shop.cluster_ip("short")]
    shop.kubectl("-n", "shop", "delete", "service", "short")
    assert before_a_ttl_is_over(lambda: shop.ask_in_pod(name).code == "NXDOMAIN")
    assert shop.in_pod("resolve", name=f"{name}.").startswith("[Errno -2]")


def before_a_ttl_is_over(condition: Any) -> bool:
    """The watch event has to arrive, on a busy machine too; a TTL of 30 s would not be over."""
    ends = time.monotonic() + 25
    while not (right := bool(condition())) and time.monotonic() < ends:
        pass
    return right


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="no setpriv on this machine")
def test_without_rights_dns_has_another_port_and_hosts_files_name_the_services(tmp_path: Path) -> None:
    # root without capabilities, but for the one that uid 0, unlike others, needs to make a user namespace
    unprivileged = [
        "setpriv",
        "--bounding-set=-all,+setfcap",
        "--inh-caps=-all",
        sys.executable,
        "-m",
        "kubecore",
        "up",
        *LOOPBACK,
    ]
    ports = ["--secure-port", "0", "--grpc-port", "0", "--dns-port", "0"]
    process = subprocess.Popen(
        [*unprivileged, "--data-dir", str(tmp_path / "data"), *ports],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    cluster = RunningCluster(process, tmp_path / "data", "", tmp_path / "data" / "admin.kubeconfig")
    try:
        assert process.stdout is not None and process.stdout.readline().startswith("kubecore is ready")
        found = program("1.37")
        assert found is not None
        shop = Shop(cluster, Kubectl(found, cluster.kubeconfig, tmp_path), "loopback")
        shop.apply()
        dns = shop.kubectl.json("-n", "kube-system", "get", "service", "kube-dns")["spec"]
        (port,) = {one["port"] for one in dns["ports"]}
        assert port >= 1024
        asked = json.loads((tmp_path / "data" / "ports.json").read_text())["dns"]
        for where in [(dns["clusterIP"], port), ("127.0.0.1", asked)]:
            assert ask(where, f"web.shop.svc.{DOMAIN}").values() == [shop.cluster_ip("web")]
        assert f"{shop.cluster_ip('web')}\tweb\tweb.shop" in shop.in_pod("file", path="/etc/hosts")
        assert shop.in_pod("resolve", name="web") == [shop.cluster_ip("web")]
    finally:
        assert cluster.stop() == 0
        assert process.stderr is not None
        assert ":53 for DNS: Permission denied (--dns-port); it answers at" in process.stderr.read()
