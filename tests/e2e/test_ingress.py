"""Ingresses as their users see them: kubectl makes them, curl asks them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.support.kubectl import Kubectl, program
from tests.support.process import ROOT, Command, running_cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PATIENCE = 180
SERVER = """
import http.server, os

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        told = f"{os.environ['NAME']} {self.path} {self.headers['X-Forwarded-Proto']}"
        body = (self.client_address[0] if self.path == "/who" else told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.ThreadingHTTPServer((os.environ["POD_IP"], 8080), Handler).serve_forever()
"""


def server(name: str) -> list[dict[str, Any]]:
    """A pod that tells its name, at /who whom it sees; and its Service."""
    container = {
        "name": "server",
        "image": "python:3",
        "command": ["python3", "-c", SERVER],
        "env": [
            {"name": "NAME", "value": name},
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        ],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    }
    labels = {"app": name}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}}
    port = {"name": "http", "port": 80, "targetPort": 8080}
    return [
        {**pod, "spec": {"containers": [container], "terminationGracePeriodSeconds": 0}},
        {**service, "spec": {"selector": labels, "ports": [port]}},
    ]


@dataclass
class Site:
    kubectl: Kubectl
    namespace: str

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        return self.kubectl("-n", self.namespace, *arguments, stdin=stdin)

    def address(self, name: str) -> tuple[str, dict[str, int]]:
        """Where an Ingress says that it is served: address, and ports in the order http, https."""
        self("wait", "--for=jsonpath={.status.loadBalancer.ingress[0].ip}", f"--timeout={PATIENCE}s", f"ingress/{name}")
        shown = json.loads(self("get", "ingress", name, "-o", "json"))["status"]["loadBalancer"]["ingress"][0]
        http, https = (one["port"] for one in shown["ports"])
        return shown["ip"], {"http": http, "https": https}

    def curl(self, name: str, url: str, *options: str) -> str:
        """Ask an Ingress for a URL of its hosts, until its routes and their pods are there."""
        ip, ports = self.address(name)
        host = url.split("/")[2]
        scheme = url.split(":")[0]
        target = ["--connect-to", f"{host}::{ip}:{ports[scheme]}"]
        retry = ["--retry", str(PATIENCE), "--retry-delay", "1", "--retry-all-errors"]
        asked = ["curl", "-sS", "--fail", *retry, *target, *options, url]
        return subprocess.run(asked, check=True, capture_output=True, text=True, timeout=2 * PATIENCE).stdout


@pytest.fixture
def site(kubectl: Kubectl, namespace: str) -> Iterator[Site]:
    made = Site(kubectl, namespace)
    items = [obj for name in ("shop", "cart") for obj in server(name)]
    made("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    made("wait", "--for=condition=Ready", f"--timeout={PATIENCE}s", "pod", "--all")
    yield made


def test_hosts_and_paths_are_routed_and_described(site: Site) -> None:
    host = f"{site.namespace}.example.com"
    made = site("create", "ingress", "web", f"--rule={host}/*=shop:80", f"--rule={host}/cart=cart:http")
    assert "Warning" not in made
    assert site.curl("web", f"http://{host}/a/b?c") == "shop /a/b?c http"
    assert site.curl("web", f"http://{host}/cart") == "cart /cart http"
    ip, _ = site.address("web")
    shown = site("get", "ingress", "web")
    assert host in shown
    assert ip in shown
    assert "kubecore" in shown
    site.kubectl.event(site.namespace, "Sync")
    described = site("describe", "ingress", "web")
    assert f"Address:          {ip}" in described
    assert "shop:80 (" in described
    assert "Scheduled for sync" in described


def test_a_default_backend_takes_the_other_paths(site: Site) -> None:
    host = f"{site.namespace}.example.com"
    site("create", "ingress", "web", f"--rule={host}/cart*=cart:80", "--default-backend=shop:80")
    assert site.curl("web", f"http://{host}/cart/x") == "cart /cart/x http"
    assert site.curl("web", f"http://{host}/other") == "shop /other http"


def test_https_shows_the_certificate_of_the_secret_and_then_its_successor(site: Site, tmp_path: Path) -> None:
    host = f"{site.namespace}.example.com"
    authorities = [trustme.CA(), trustme.CA()]
    for number, authority in enumerate(authorities):
        pair = authority.issue_cert(host)
        pair.cert_chain_pems[0].write_to_path(tmp_path / f"{number}.crt")
        pair.private_key_pem.write_to_path(tmp_path / f"{number}.key")
        authority.cert_pem.write_to_path(tmp_path / f"{number}.ca")
    files = [("--cert", str(tmp_path / f"{number}.crt"), "--key", str(tmp_path / f"{number}.key")) for number in (0, 1)]
    site("create", "secret", "tls", "cert", *files[0])
    site("create", "ingress", "web", f"--rule={host}/*=shop:80,tls=cert")
    url = f"https://{host}/"
    assert site.curl("web", url, "--cacert", str(tmp_path / "0.ca")) == "shop / https"
    assert site.curl("web", url, "--cacert", str(tmp_path / "0.ca"), "--http1.1") == "shop / https"
    successor = site("create", "secret", "tls", "cert", *files[1], "--dry-run=client", "-o", "json")
    site("replace", "-f", "-", stdin=successor)
    assert site.curl("web", url, "--cacert", str(tmp_path / "1.ca")) == "shop / https"


def test_what_is_missing_is_told_in_events(site: Site) -> None:
    host = f"{site.namespace}.example.com"
    site("create", "ingress", "web", f"--rule={host}/*=nobody:80,tls=nothing")
    for reason in ("MissingService", "MissingSecret"):
        field = f"involvedObject.name=web,reason={reason}"
        site("wait", "--for=create", f"--timeout={PATIENCE}s", "event", "--field-selector", field)
    ip, ports = site.address("web")
    asked = [
        "curl",
        "-s",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "-H",
        f"Host: {host}",
        f"http://{ip}:{ports['http']}/",
    ]
    assert subprocess.run(asked, capture_output=True, text=True, timeout=PATIENCE).stdout == "503"


def test_the_controller_runs_by_itself_with_a_role_of_its_own(tmp_path: Path) -> None:
    with running_cluster(tmp_path / "data", "--no-ingress", "--nodes", "0") as cluster:
        found = program("1.37")
        assert found is not None
        kubectl = Kubectl(found, cluster.kubeconfig, tmp_path)
        user = ["kubeconfig", "user", "--data-dir", str(cluster.data_dir), "--client-name", "system:kubecore-ingress"]
        made = subprocess.run([sys.executable, "-m", "kubecore", *user], cwd=ROOT, capture_output=True, text=True)
        credentials = tmp_path / "ingress.kubeconfig"
        credentials.write_text(made.stdout)
        ports = ("--http-port", "0", "--https-port", "0", "--publish-status-address", "192.0.2.1")
        log = tmp_path / "access.log"
        command = Command("ingress", "--kubeconfig", str(credentials), *ports, "--access-log", str(log))
        try:
            command.wait_for("kubecore-ingress is ready")
            site = Site(kubectl, "default")
            site("create", "ingress", "web", "--rule=foo.com/*=nobody:80")
            ip, ports_ = site.address("web")
            assert ip == "192.0.2.1"
            url = f"http://127.0.0.1:{ports_['http']}/"
            asked = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Host: foo.com", url]
            assert subprocess.run(asked, capture_output=True, text=True, timeout=PATIENCE).stdout == "503"
            assert command.stop() == 0
            assert json.loads(log.read_text())["status"] == 503
        finally:
            command.kill()


def test_an_ingress_of_another_class_is_left_alone(site: Site) -> None:
    host = f"{site.namespace}.example.com"
    site("create", "ingress", "theirs", "--class=nginx", f"--rule={host}/*=cart:80")
    site("create", "ingress", "ours", f"--rule={host}/*=shop:80")
    assert site.curl("ours", f"http://{host}/") == "shop / http"
    assert json.loads(site("get", "ingress", "theirs", "-o", "json"))["status"]["loadBalancer"] == {}
