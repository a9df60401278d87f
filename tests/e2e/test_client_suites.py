"""The Python client libraries' own end to end tests, from their source packages on PyPI, against kubecore.

lightkube's source package has no tests. What is left out has its reason beside it.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.client_sources import ClientSources
from tests.support.kubectl import Kubectl
from tests.support.process import RunningCluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

KR8S_CLUSTER = Path(__file__).parent / "client_suites" / "kr8s_conftest.py"

# The clients' tests are configured by a module that only their repositories have.
CONFIGURED = """
from {package} import client, config

def get_e2e_configuration():
    configuration = client.Configuration()
    {load}
    return configuration
"""
LOAD = "config.load_kube_config(client_configuration=configuration)"
LOAD_AWAITED = f"import asyncio; asyncio.run({LOAD})"

# The host runtime ignores images: pods get a command that ends when told, as the image's does.
PAUSE = '"image": "gcr.io/google_containers/pause"'
IDLE = """["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]"""
PAUSE_HERE = f'{PAUSE}, "command": {IDLE}'
NGINX, NGINX_PAGES = '["image"] = "nginx:latest"', "/usr/share/nginx/html"
SERVE = "trap 'kill $!; exit 0' TERM; {python} -m http.server 80 --directory {pages} & wait"
NGINX_HERE = f'["command"] = ["sh", "-c", "{SERVE}"]'
IDLE_NGINX = '"image": "nginx:latest"'
# A busy machine needs longer for three pods one after the other, a command in a pod, an answer to a probe.
LONGER = {
    '3", timeout=30': '3", timeout=250',
    '["date"], timeout=2': '["date"], timeout=250',
    '"timeoutSeconds": 1': '"timeoutSeconds": 60',
}
# Its tests of custom kinds look for a definition and then ask for its kind, which is served a moment later.
EXISTS = "await example.create()\n    while not await example.exists():"
SERVED = {
    EXISTS: f"""{EXISTS}
        await anyio.sleep(0.1)
    while "Established" not in [one.type for one in example.raw.status.conditions or [] if one.status == "True"]:
        await example.refresh()"""
}

KR8S_LEFT_OUT = {
    "port_forward and (start_stop or multiple)": "ask for the port before kr8s listens at it, as on a busy machine",
    "test_pod_exec_not_ready": "makes a pod of the image nginx by a function that takes no command",
    "test_pod_logs": "expects what the image busybox says",
    "test_pod_get_timeout": "fails where a creation takes a second, as on a busy machine",
    "wait_ready": "must see its pod not ready after asking for its end and before it is gone, which it may miss",
    "test_api_resources": "expects one resource of the name pods; with metrics.k8s.io there are two",
    "test_api_timeout": "holds only where a server needs more than 10 µs to answer",
    "test_cast_to_from_kubernetes and not kubernetes_asyncio": "expects modules that kubernetes 37 has no more",
}
DYNAMIC_LEFT_OUT = {
    "test_async_namespaced_custom_resources": "asks for apiextensions.k8s.io/v1beta1, which Kubernetes 1.22 dropped",
    "test_cluster_custom_resources": "asks for apiextensions.k8s.io/v1beta1, which Kubernetes 1.22 dropped",
    "test_namespaced_custom_resources": "asks for apiextensions.k8s.io/v1beta1, which Kubernetes 1.22 dropped",
    "test_cache_decoder_resource_and_subresource": "compares objects by identity that two clients made",
}
AWAITED_LEFT_OUT = {
    "test_server_side_apply_api": "applies a Deployment as a Pod, which Kubernetes refuses, too: invalid object type",
}


class Suites:
    """Runs tests of a source package in a process of their own."""

    def __init__(self, clients: ClientSources, environment: dict[str, str]) -> None:
        self.clients = clients
        self.environment = environment

    def passed(self, folder: Path, tests: str, left_out: Mapping[str, str]) -> int:
        """How many tests passed, all but those left out; AssertionError with what they said when any failed."""
        chosen = " and ".join(f"not ({words})" for words in left_out)
        # Limits that only what hangs meets; the packages' own options ask for plug-ins that are of no use here.
        options = ["-p", "no:cacheprovider", "-o", "addopts=", "-o", "asyncio_mode=auto", "--timeout=300", "--tb=short"]
        done = subprocess.run(
            [self.clients.python, "-m", "pytest", "-q", *options, "-k", chosen, tests],
            cwd=folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-8000:]
        found = re.search(r"(\d+) passed", done.stdout)
        assert found is not None, done.stdout
        return int(found.group(1))

    def configured(self, package: str, module: str, load: str) -> Path:
        """The unpacked `package` with the module that tells its tests where the cluster is."""
        source = self.clients.source(package)
        folder = source.joinpath(*module.split("."), "e2e_test")
        folder.mkdir()
        (folder / "__init__.py").touch()
        (folder / "base.py").write_text(CONFIGURED.format(package=module, load=load))
        return source


@pytest.fixture(scope="module")
def suites(
    client_sources: ClientSources, cluster: RunningCluster, kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory
) -> Suites:
    home = tmp_path_factory.mktemp("home")
    return Suites(client_sources, client_sources.environment(cluster.kubeconfig, kubectl.program, home))


def test_the_tests_of_kr8s_pass(suites: Suites, kubectl: Kubectl) -> None:
    source = suites.clients.source("kr8s")
    (source / "conftest.py").write_text(KR8S_CLUSTER.read_text())
    pages = source / "pages"
    pages.mkdir()
    nginx = NGINX_HERE.format(python=suites.clients.python, pages=pages)
    here = {PAUSE: PAUSE_HERE, NGINX: nginx, IDLE_NGINX: f'{IDLE_NGINX}, "command": {IDLE}', NGINX_PAGES: str(pages)}
    for path in [source / "kr8s" / "conftest.py", *(source / "kr8s" / "tests").glob("*.py")]:
        text = path.read_text()
        for one, other in {**here, **LONGER, **SERVED}.items():
            text = text.replace(one, other)
        path.write_text(text)
    # Some tests look at the system's pods, which a cluster by kind has.
    kubectl("-n", "kube-system", "run", "addon", "--image=none", "--command", "--", "sleep", "3600")
    kubectl("-n", "kube-system", "wait", "--for=condition=Ready", "pod/addon", "--timeout=180s")
    try:
        assert suites.passed(source, "kr8s/tests", KR8S_LEFT_OUT) > 215
    finally:
        kubectl("-n", "kube-system", "delete", "pod", "addon", "--now", "--wait=false")


def test_the_dynamic_client_tests_of_kubernetes_pass(suites: Suites) -> None:
    source = suites.configured("kubernetes", "kubernetes", LOAD)
    assert suites.passed(source, "kubernetes/dynamic", DYNAMIC_LEFT_OUT) >= 16


def test_the_dynamic_client_tests_of_kubernetes_aio_pass(suites: Suites) -> None:
    source = suites.configured("kubernetes", "kubernetes.aio", LOAD_AWAITED)
    assert suites.passed(source, "kubernetes/aio/dynamic", AWAITED_LEFT_OUT) >= 13


def test_the_dynamic_client_tests_of_kubernetes_asyncio_pass(suites: Suites) -> None:
    source = suites.configured("kubernetes-asyncio", "kubernetes_asyncio", LOAD_AWAITED)
    assert suites.passed(source, "kubernetes_asyncio/dynamic", AWAITED_LEFT_OUT) >= 13
