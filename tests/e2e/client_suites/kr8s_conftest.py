"""In place of the conftest.py beside kr8s' tests, which starts a cluster by kind: fixtures for a running cluster."""

import gc
import os
import random
import socket
import subprocess
from pathlib import Path

import pytest
from kr8s._portforward import PortForward


class Cluster:
    kubeconfig_path = Path(os.environ["KUBECONFIG"])
    kubectl_path = "kubectl"

    def kubectl(self, *arguments: str) -> str:
        return subprocess.check_output([self.kubectl_path, *arguments], encoding="utf-8")


def free_port(_: PortForward) -> int:
    """kr8s takes any port, also one of those that the kernel gives to connections, which may have it a moment later."""
    while True:
        port = random.randrange(12_000, 18_000)
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) != 0:
                return port


PortForward._find_available_port = free_port


@pytest.fixture(scope="session", autouse=True)
def k8s_cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def ensure_gc():
    gc.collect()
    yield
    gc.collect()
