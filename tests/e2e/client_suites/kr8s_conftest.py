"""In place of the conftest.py beside kr8s' tests, which starts a cluster by kind: fixtures for a running cluster."""

import gc
import os
import subprocess
from pathlib import Path

import pytest


class Cluster:
    kubeconfig_path = Path(os.environ["KUBECONFIG"])
    kubectl_path = "kubectl"

    def kubectl(self, *arguments: str) -> str:
        return subprocess.check_output([self.kubectl_path, *arguments], encoding="utf-8")


@pytest.fixture(scope="session", autouse=True)
def k8s_cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def ensure_gc():
    gc.collect()
    yield
    gc.collect()
