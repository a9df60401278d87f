"""A cluster whose parts are processes of their own, each with a kubeconfig of its own identity (README, components)."""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kubecore.kubelet.networks.range_claims import Claim, claim_first
from tests.support.asking import answer_at
from tests.support.kubectl import Kubectl, program
from tests.support.ports import free_port
from tests.support.process import ROOT, Command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

EXAMPLE = ROOT / "examples" / "web.yaml"
# For Services: `kubecore up` takes its own from 127.96.0.0/16.
RANGES = [f"127.{number}.0.0/16" for number in range(97, 128)]
NODES = ("alpha", "beta")
ROTATING = "beta"
# Tests kill the API server and start it again on a machine with other work to do: who leads must outlast that.
PATIENT = ("--leader-elect-lease-duration=2m", "--leader-elect-renew-deadline=90s")


@dataclass
class Parts:
    """The processes of one cluster. Its API server listens on the same port again after a restart."""

    folder: Path
    stack: ExitStack
    port: int = field(default_factory=free_port)
    own_ports: dict[str, int] = field(default_factory=dict)
    services: Claim = field(default_factory=lambda: claim_first(RANGES))
    commands: dict[str, Command] = field(default_factory=dict)

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    def __post_init__(self) -> None:
        self.stack.callback(self.services.release)

    def start(self, name: str, *arguments: str) -> Command:
        command = self.commands[name] = Command(*arguments)
        self.stack.callback(command.kill)
        return command

    def start_api_server(self) -> None:
        where = ("--data-dir", str(self.data_dir), "--secure-port", str(self.port))
        self.start("apiserver", "apiserver", *where, "--service-cluster-ip-range", self.services.network).wait_ready()

    def kubeconfig(self, user: str, *groups: str) -> Path:
        """A file with credentials of that identity."""
        file = self.folder / f"{user.replace(':', '-')}.kubeconfig"
        if not file.exists():
            words = [sys.executable, "-m", "kubecore", "kubeconfig", "user", "--data-dir", str(self.data_dir)]
            for group in groups:
                words += ["--org", group]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            done = subprocess.run([*words, "--client-name", user], check=True, capture_output=True, env=environment)
            file.write_bytes(done.stdout)
        return file

    def start_kubelet(self, node: str) -> None:
        credentials = self.kubeconfig(f"system:node:{node}", "system:nodes")
        root_dir = str(self.folder / node)
        own = ("--kubeconfig", str(credentials), "--hostname-override", node, "--root-dir", root_dir)
        command = self.start(node, "kubelet", *own, *(["--rotate-certificates"] if node == ROTATING else []))
        self.stack.callback(command.stop)  # or its pods go on

    def start_manager(self, name: str, *arguments: str) -> Command:
        """Its controllers have the rights of their service accounts, and no others."""
        credentials = str(self.kubeconfig("system:kube-controller-manager"))
        own = ("--kubeconfig", credentials, "--use-service-account-credentials")
        return self.start(name, "controller-manager", *own, *self.own_port(name), *arguments)

    def own_port(self, name: str) -> tuple[str, str]:
        """The option for the port where this part tells of itself."""
        self.own_ports[name] = free_port()
        return "--secure-port", str(self.own_ports[name])

    def start_all(self) -> None:
        self.start_api_server()
        authority = str(self.data_dir / "pki" / "ca")
        signing = ("--cluster-signing-cert-file", f"{authority}.crt", "--cluster-signing-key-file", f"{authority}.key")
        self.start_manager("controller-manager", *PATIENT, *signing)
        own = ("--kubeconfig", str(self.kubeconfig("system:kube-scheduler")), *self.own_port("scheduler"))
        self.start("scheduler", "scheduler", *own, *PATIENT)
        self.start("proxy", "proxy", "--kubeconfig", str(self.kubeconfig("system:kube-proxy")))
        for node in NODES:
            self.start_kubelet(node)

    def kubectl(self, kubeconfig: Path | None = None) -> Kubectl:
        found = program("1.37")
        assert found is not None
        return Kubectl(found, kubeconfig or self.data_dir / "admin.kubeconfig", self.folder)


@contextmanager
def separate_parts(folder: Path) -> Iterator[Parts]:
    with ExitStack() as stack:
        parts = Parts(folder, stack)
        parts.start_all()
        kubectl = parts.kubectl()
        for node in NODES:
            kubectl("wait", "--for=create", f"node/{node}", "--timeout=180s")
        kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=180s")
        yield parts


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    with separate_parts(tmp_path_factory.mktemp("parts")) as running:
        yield running


@pytest.fixture(scope="module")
def web(parts: Parts) -> Kubectl:
    """The example is rolled out."""
    kubectl = parts.kubectl()
    kubectl("apply", "-f", str(EXAMPLE))
    for name in ("backend", "frontend"):
        kubectl("-n", "web", "rollout", "status", f"deployment/{name}", "--timeout=180s")
    return kubectl


@pytest.fixture(scope="module")
def front_end(web: Kubectl) -> str:
    """Where the front end answers."""
    port = web("-n", "web", "get", "service", "frontend", "-o", "jsonpath={.spec.ports[0].nodePort}")
    answer_at(f"http://127.0.0.1:{port}")
    return f"http://127.0.0.1:{port}"


def ask(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:
        said: bytes = answer.read()
    return said.decode()


def test_the_front_end_of_the_example_answers_what_the_back_end_said(front_end: str) -> None:
    assert "hello from the back end, by pod backend-" in ask(front_end)


def test_pods_are_spread_over_the_nodes_and_no_two_have_the_same_address(web: Kubectl) -> None:
    pods = web.json("-n", "web", "get", "pods")["items"]
    assert {pod["spec"]["nodeName"] for pod in pods} == set(NODES)
    addresses = [pod["status"]["podIP"] for pod in pods]
    assert len(set(addresses)) == len(addresses)


@pytest.mark.parametrize("node", NODES)
def test_logs_come_from_the_kubelet_of_each_node(web: Kubectl, node: str) -> None:
    name = f"says-{node}"
    container = {"name": "it", "image": "none", "command": ["sh", "-c", f"echo I run on {node}"]}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "web"},
        "spec": {"nodeName": node, "restartPolicy": "Never", "containers": [container]},
    }
    web("apply", "-f", "-", stdin=json.dumps(pod))
    web("-n", "web", "wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{name}", "--timeout=180s")
    assert web("-n", "web", "logs", name) == f"I run on {node}\n"


def test_who_monitors_is_told_of_scheduler_and_controllers(web: Kubectl, parts: Parts) -> None:
    web("-n", "kube-system", "create", "serviceaccount", "monitor")
    account = "--serviceaccount=kube-system:monitor"
    web("create", "clusterrolebinding", "monitor", "--clusterrole=system:monitoring", account)
    token = web("-n", "kube-system", "create", "token", "monitor").strip()

    def told(name: str) -> str:
        url = f"https://127.0.0.1:{parts.own_ports[name]}/metrics"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
        unverified = ssl._create_unverified_context()  # each made its certificate itself
        with urllib.request.urlopen(request, timeout=60, context=unverified) as answer:
            text: bytes = answer.read()
        return text.decode()

    scheduled = 'scheduler_schedule_attempts_total{profile="default-scheduler",result="scheduled"}'
    assert re.search(rf"^{re.escape(scheduled)} [1-9]", told("scheduler"), re.MULTILINE)
    assert re.search(r'^workqueue_adds_total\{name="deployment"\} [1-9]', told("controller-manager"), re.MULTILINE)


def test_their_leases_tell_of_the_parts_that_lead(web: Kubectl) -> None:
    rows = [line.split()[:3] for line in web("get", "componentstatuses").splitlines()[1:]]
    assert sorted(rows) == [["controller-manager", "Healthy", "ok"], ["scheduler", "Healthy", "ok"]]
    for name in ("kube-controller-manager", "kube-scheduler"):
        selected = f"--field-selector=reason=LeaderElection,involvedObject.name={name}"
        web("-n", "kube-system", "wait", "--for=create", "events", selected, "--timeout=180s")
    told = web("-n", "kube-system", "get", "events", "--field-selector=reason=LeaderElection", "-o", "name")
    assert len(told.splitlines()) == 2


def test_a_second_manager_stands_by_until_the_first_gives_the_lease_back(web: Kubectl, parts: Parts) -> None:
    second = parts.start_manager("second-manager", *PATIENT)
    second.wait_for("kube-controller-manager stands by")
    assert parts.commands["controller-manager"].stop() == 0
    second.wait_for("kube-controller-manager is ready")
    web("-n", "web", "scale", "deployment", "frontend", "--replicas=3")
    web("-n", "web", "rollout", "status", "deployment/frontend", "--timeout=180s")


def test_quotas_and_autoscalers_need_no_more_than_their_accounts_rights(web: Kubectl) -> None:
    web("-n", "web", "create", "quota", "q", "--hard=pods=20,count/deployments.apps=5")
    counted = "--for=jsonpath={.status.used.count/deployments\\.apps}=2"
    web("-n", "web", "wait", "resourcequota/q", counted, "--timeout=180s")
    web("-n", "web", "autoscale", "deployment", "backend", "--min=4", "--max=4")
    scaled = ("wait", "deployment/backend", "--for=jsonpath={.spec.replicas}=4", "--timeout=180s")
    web("-n", "web", *scaled)
    web("-n", "web", "wait", "hpa/backend", "--for=condition=AbleToScale", "--timeout=180s")
    web("-n", "web", "delete", "hpa/backend", "quota/q")


def test_the_published_root_ca_is_the_one_of_the_controller_managers_kubeconfig(web: Kubectl, parts: Parts) -> None:
    published = web("-n", "web", "get", "configmap", "kube-root-ca.crt", "-o", "jsonpath={.data.ca\\.crt}")
    assert published == (parts.data_dir / "pki" / "ca.crt").read_text()


def test_a_kubelet_is_its_node_and_may_do_no_more_than_that(web: Kubectl, parts: Parts) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "not-for-nodes"}, "stringData": {"a": "b"}}
    web("-n", "default", "apply", "-f", "-", stdin=json.dumps(secret))
    alpha = parts.kubectl(parts.kubeconfig("system:node:alpha", "system:nodes"))
    assert alpha.json("auth", "whoami")["status"]["userInfo"]["username"] == "system:node:alpha"
    refused = alpha.run("-n", "default", "get", "secret", "not-for-nodes")
    assert refused.status == 1
    assert 'User "system:node:alpha" cannot get resource "secrets"' in refused.errors
    assert alpha.run("label", "node", "beta", "a=b").status == 1


def test_a_kubelet_that_rotates_its_certificate_is_signed_one_of_its_own(web: Kubectl) -> None:
    web("wait", "--for=jsonpath={.status.certificate}", "csr", "--all", "--timeout=180s")
    (asked,) = web.json("get", "csr")["items"]
    assert asked["spec"]["username"] == f"system:node:{ROTATING}"
    assert asked["spec"]["signerName"] == "kubernetes.io/kube-apiserver-client-kubelet"
    assert [one["type"] for one in asked["status"]["conditions"]] == ["Approved"]
    assert "Ready" in web("get", "node", ROTATING, "--no-headers").split()


def test_all_go_on_when_the_api_server_was_killed_and_is_back(web: Kubectl, parts: Parts, front_end: str) -> None:
    parts.commands["apiserver"].kill()
    assert "hello from the back end" in ask(front_end), "what runs needs no API server"
    parts.start_api_server()
    web("-n", "web", "scale", "deployment", "backend", "--replicas=5")
    web("-n", "web", "rollout", "status", "deployment/backend", "--timeout=180s")
    assert "hello from the back end" in ask(front_end)


def test_pods_do_not_notice_that_their_kubelet_was_killed_and_is_back(
    web: Kubectl, parts: Parts, front_end: str
) -> None:
    def containers() -> list[object]:
        pods = web.json("-n", "web", "get", "pods", "--field-selector", "spec.nodeName=alpha")["items"]
        return [one["status"]["containerStatuses"] for one in pods]

    before = containers()
    parts.commands["alpha"].kill()
    assert "hello from the back end" in ask(front_end)
    parts.start_kubelet("alpha")
    parts.commands["alpha"].wait_for("is ready")
    shown = web("-n", "web", "exec", "deployment/frontend", "--", "echo", "here")
    assert shown.strip() == "here"
    assert containers() == before


def test_a_second_kubelet_of_a_node_is_refused_and_ends_nothing(web: Kubectl, parts: Parts) -> None:
    def containers() -> list[object]:
        pods = web.json("-n", "web", "get", "pods", "--field-selector", "spec.nodeName=beta")["items"]
        return [one["status"]["containerStatuses"] for one in pods]

    before, root = containers(), parts.folder / "beta"
    own = ("--kubeconfig", str(parts.kubeconfig("system:node:beta", "system:nodes")), "--hostname-override", "beta")
    words = [sys.executable, "-m", "kubecore", "kubelet", *own, "--root-dir", str(root)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, capture_output=True, text=True, timeout=100, env=environment, check=False)
    first = parts.commands["beta"].process.pid
    expected = f"kubecore: {root} is in use by process {first}; choose another root directory with --root-dir\n"
    assert (done.returncode, done.stderr) == (1, expected)
    assert containers() == before


def children_of(pid: int) -> list[int]:
    done = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    direct = [int(word) for word in done.stdout.split()]
    return direct + [below for child in direct for below in children_of(child)]


def test_each_part_ends_within_five_seconds_with_status_0_and_no_process_is_left(tmp_path: Path) -> None:
    with separate_parts(tmp_path) as parts:
        kubectl = parts.kubectl()
        kubectl("apply", "-f", str(EXAMPLE))
        kubectl("-n", "web", "rollout", "status", "deployment/backend", "--timeout=180s")
        children = [child for node in NODES for child in children_of(parts.commands[node].process.pid)]
        assert children
        for name, command in reversed(parts.commands.items()):
            assert command.stop_within(5) == 0, f"{name}: {command.errors}"
        assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []


def test_a_component_without_an_api_server_waits_for_it(tmp_path: Path) -> None:
    with ExitStack() as stack:
        parts = Parts(tmp_path, stack)
        parts.start_api_server()
        parts.kubeconfig("system:node:alpha", "system:nodes")
        parts.commands["apiserver"].kill()
        parts.start_kubelet("alpha")
        parts.start_api_server()
        parts.kubectl()("wait", "--for=create", "node/alpha", "--timeout=180s")
