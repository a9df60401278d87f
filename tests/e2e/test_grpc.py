"""The gRPC API of a running cluster, with credentials that kubectl users have."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kubecore.api.errors import StatusError
from kubecore.client.grpc import GrpcClient, connect
from tests.support.kubectl import Kubectl
from tests.support.process import RunningCluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MAPS = "v1/configmaps"
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "grpc_client.py"


def config_map(name: str, **data: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def target(cluster: RunningCluster) -> str:
    return f"127.0.0.1:{json.loads((cluster.data_dir / 'ports.json').read_text())['grpc']}"


def authority(cluster: RunningCluster) -> bytes:
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    return base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"])


def administrator(cluster: RunningCluster) -> GrpcClient:
    """By the client certificate of the kubeconfig."""
    user = yaml.safe_load(cluster.kubeconfig.read_text())["users"][0]["user"]
    return connect(
        target(cluster),
        ca=authority(cluster),
        certificate=base64.b64decode(user["client-certificate-data"]),
        key=base64.b64decode(user["client-key-data"]),
    )


async def test_what_grpc_writes_kubectl_reads(cluster: RunningCluster, kubectl: Kubectl, namespace: str) -> None:
    async with administrator(cluster) as objects:
        await objects.create(MAPS, config_map("a", key="1"), namespace)
        assert kubectl("-n", namespace, "get", "configmap", "a", "-o", "jsonpath={.data.key}") == "1"
        kubectl("-n", namespace, "patch", "configmap", "a", "--type=merge", "-p", '{"data":{"key":"2"}}')
        assert (await objects.get(MAPS, "a", namespace)).decode()["data"] == {"key": "2"}


def test_the_example_finds_the_port_beside_the_kubeconfig(cluster: RunningCluster) -> None:
    command = [sys.executable, str(EXAMPLE), str(cluster.kubeconfig)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1].startswith("ADDED over-grpc-")


async def test_a_watch_resumes_where_it_was_left(cluster: RunningCluster, kubectl: Kubectl, namespace: str) -> None:
    async with administrator(cluster) as objects:
        listing = await objects.list(MAPS, namespace)
        revision = listing.resource_version
        for name in ("a", "b", "c"):
            await objects.create(MAPS, config_map(name), namespace)
        seen: list[str] = []
        while seen[-1:] != ["c"]:
            async for events in objects.watch(MAPS, namespace, resource_version=revision):
                seen += [event.item.metadata.name for event in events]
                revision = events[-1].item.metadata.resource_version
                break
        assert [name for name in seen if name in "abc"] == ["a", "b", "c"]


async def test_a_service_account_has_its_rights_and_no_more(
    cluster: RunningCluster, kubectl: Kubectl, namespace: str
) -> None:
    kubectl("-n", namespace, "create", "serviceaccount", "reader")
    kubectl("-n", namespace, "create", "role", "reader", "--verb=get,list", "--resource=configmaps")
    account = f"--serviceaccount={namespace}:reader"
    kubectl("-n", namespace, "create", "rolebinding", "reader", "--role=reader", account)
    token = kubectl("-n", namespace, "create", "token", "reader").strip()
    async with connect(target(cluster), ca=authority(cluster), token=token) as objects:
        assert (await objects.list(MAPS, namespace)).items is not None
        with pytest.raises(StatusError) as refused:
            await objects.create(MAPS, config_map("a"), namespace)
        assert (refused.value.code, refused.value.reason) == (403, "Forbidden")
        assert f'User "system:serviceaccount:{namespace}:reader" cannot create resource' in refused.value.message


async def test_a_bad_token_is_unauthenticated(cluster: RunningCluster) -> None:
    async with connect(target(cluster), ca=authority(cluster), token="nonsense") as objects:
        with pytest.raises(StatusError) as refused:
            await objects.get(MAPS, "a", "default")
        assert (refused.value.code, refused.value.reason) == (401, "Unauthorized")
