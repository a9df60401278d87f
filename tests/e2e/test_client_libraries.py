"""The official and the popular Python client libraries, unmodified: CRUD and watch."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.process import RunningCluster

pytestmark = [pytest.mark.slow]


def test_kubernetes_creates_reads_patches_lists_watches_and_deletes(cluster: RunningCluster) -> None:
    import kubernetes as k8s

    api = k8s.client.CoreV1Api(k8s.config.new_client_from_config(str(cluster.kubeconfig)))
    body = k8s.client.V1ConfigMap(metadata=k8s.client.V1ObjectMeta(name="official", labels={"a": "b"}), data={"k": "1"})
    made = api.create_namespaced_config_map("default", body)
    assert made.metadata.uid
    api.patch_namespaced_config_map("official", "default", {"data": {"k": "2"}})
    assert api.read_namespaced_config_map("official", "default").data == {"k": "2"}
    listed = api.list_namespaced_config_map("default", label_selector="a=b")
    assert [item.metadata.name for item in listed.items] == ["official"]
    types = []
    stream = k8s.watch.Watch().stream(
        api.list_namespaced_config_map, "default", resource_version=made.metadata.resource_version, timeout_seconds=60
    )
    api.delete_namespaced_config_map("official", "default")
    for event in stream:
        if event["object"].metadata.name == "official":
            types.append(event["type"])
        if event["type"] == "DELETED":
            break
    assert types == ["MODIFIED", "DELETED"]
    with pytest.raises(k8s.client.ApiException) as missing:
        api.read_namespaced_config_map("official", "default")
    assert missing.value.status == 404


async def test_kubernetes_asyncio_creates_reads_watches_and_deletes(cluster: RunningCluster) -> None:
    from kubernetes_asyncio import client, config, watch

    configuration = client.Configuration()
    await config.load_kube_config(config_file=str(cluster.kubeconfig), client_configuration=configuration)
    async with client.ApiClient(configuration) as connection:
        api = client.CoreV1Api(connection)
        made = await api.create_namespaced_config_map("default", {"metadata": {"name": "asyncio"}, "data": {"k": "1"}})
        assert (await api.read_namespaced_config_map("asyncio", "default")).data == {"k": "1"}
        await api.delete_namespaced_config_map("asyncio", "default")
        async with watch.Watch().stream(
            api.list_namespaced_config_map,
            "default",
            resource_version=made.metadata.resource_version,
            timeout_seconds=60,
        ) as stream:
            async for event in stream:
                if event["object"].metadata.name == "asyncio":
                    assert event["type"] == "DELETED"
                    break


def test_lightkube_creates_applies_reads_lists_watches_and_deletes(cluster: RunningCluster) -> None:
    from lightkube import Client, KubeConfig
    from lightkube.core.exceptions import ApiError
    from lightkube.models.meta_v1 import ObjectMeta
    from lightkube.resources.core_v1 import ConfigMap

    client = Client(config=KubeConfig.from_file(str(cluster.kubeconfig)))
    made = client.create(ConfigMap(metadata=ObjectMeta(name="light", namespace="default"), data={"k": "1"}))
    assert made.metadata is not None
    client.patch(ConfigMap, "light", {"data": {"k": "2"}})
    assert client.get(ConfigMap, "light").data == {"k": "2"}
    assert "light" in [item.metadata.name for item in client.list(ConfigMap) if item.metadata]
    client.delete(ConfigMap, "light")
    for kind, item in client.watch(ConfigMap, resource_version=made.metadata.resourceVersion, server_timeout=60):
        if kind == "DELETED":
            assert item.metadata is not None
            assert item.metadata.name == "light"
            break
    with pytest.raises(ApiError):
        client.get(ConfigMap, "light")


def test_kr8s_creates_reads_patches_and_deletes(
    cluster: RunningCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import kr8s
    from kr8s.objects import ConfigMap

    monkeypatch.setenv("HOME", str(tmp_path))
    api = kr8s.api(kubeconfig=str(cluster.kubeconfig))
    body = {"metadata": {"name": "kr8s", "namespace": "default"}, "data": {"k": "1"}}
    made = ConfigMap(body, api=api)
    made.create()
    made.patch({"data": {"k": "2"}})
    assert ConfigMap.get("kr8s", namespace="default", api=api).raw["data"] == {"k": "2"}
    assert "kr8s" in [item.name for item in api.get("configmaps", namespace="default")]
    made.delete()
    assert not made.exists()
