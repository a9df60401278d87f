"""What ResourceQuotas let through, and in which words they refuse the rest."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from .conftest import Api, config_map, deployment, pod

pytestmark = pytest.mark.asyncio(loop_scope="module")

PODS, QUOTAS, CLAIMS, SERVICES = "v1/pods", "v1/resourcequotas", "v1/persistentvolumeclaims", "v1/services"
JSON = dict[str, Any]


async def limit(api: Api, hard: JSON, used: JSON | None = None, *, name: str = "q", **spec: Any) -> None:
    """A quota as the controller leaves it once it has counted."""
    status, made = await api.create(QUOTAS, {"metadata": {"name": name}, "spec": {"hard": hard, **spec}})
    assert status == 201, made
    counted = {"hard": hard, "used": dict.fromkeys(hard, "0") if used is None else used}
    status, made = await api.update(QUOTAS, {**made, "status": counted}, "status")
    assert status == 200, made


async def used(api: Api, name: str = "q") -> JSON:
    _, quota = await api.get(QUOTAS, name)
    found: JSON = quota["status"]["used"]
    return found


async def allowed(api: Api, resource: str, obj: JSON) -> None:
    status, made = await api.create(resource, obj)
    assert status == 201, made


async def refusal(api: Api, resource: str, obj: JSON) -> str:
    status, error = await api.create(resource, obj)
    assert (status, error["reason"]) == (403, "Forbidden"), error
    name = obj["metadata"]["name"]
    return str(error["message"]).removeprefix(f'{resource.rpartition("/")[2]} "{name}" is forbidden: ')


def asking(name: str, requests: JSON | None = None, limits: JSON | None = None, **spec: Any) -> JSON:
    made = pod(name, **spec)
    given = {"requests": requests, "limits": limits}
    made["spec"]["containers"][0]["resources"] = {key: value for key, value in given.items() if value}
    return made


def claim(name: str, storage: str, storage_class: str | None = None) -> JSON:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage}}}
    return {"metadata": {"name": name}, "spec": {**spec, "storageClassName": storage_class}}


def service(name: str, kind: str = "ClusterIP", ports: int = 1, **spec: Any) -> JSON:
    listed = [{"name": f"p{number}", "port": 80 + number} for number in range(ports)]
    return {"metadata": {"name": name}, "spec": {"type": kind, "ports": listed, **spec}}


async def test_what_is_charged_to_a_quota_is_the_servers(api: Api) -> None:
    await limit(api, {"pods": "3", "services": "3"})
    await allowed(api, PODS, pod("a"))
    _, quota = await api.get(QUOTAS, "q")
    entries = {one["manager"]: one for one in quota["metadata"]["managedFields"] if one.get("subresource") == "status"}
    server = entries.pop("kube-apiserver")
    assert server["fieldsV1"] == {"f:status": {"f:used": {"f:pods": {}}}}
    [counter] = entries.values()
    assert counter["fieldsV1"]["f:status"]["f:used"] == {".": {}, "f:services": {}}


async def test_creates_are_charged_until_the_quota_is_used_up(api: Api) -> None:
    await limit(api, {"pods": "2", "requests.cpu": "1"})
    await allowed(api, PODS, asking("a", {"cpu": "600m"}))
    assert await used(api) == {"pods": "1", "requests.cpu": "600m"}
    told = "exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1"
    assert await refusal(api, PODS, asking("b", {"cpu": "500m"})) == told
    await allowed(api, PODS, asking("b", {"cpu": "400m"}))
    assert await used(api) == {"pods": "2", "requests.cpu": "1"}
    told = "exceeded quota: q, requested: pods=1,requests.cpu=1m, used: pods=2,requests.cpu=1"
    assert await refusal(api, PODS, asking("c", {"cpu": "1m"})) == f"{told}, limited: pods=2,requests.cpu=1"


async def test_many_creates_at_once_take_no_more_than_there_is(api: Api) -> None:
    await limit(api, {"configmaps": "7", "count/configmaps": "9"})
    answers = await asyncio.gather(*(api.create("v1/configmaps", config_map(f"c{n}")) for n in range(40)))
    assert sorted(status for status, _ in answers) == [201] * 7 + [403] * 33
    assert await used(api) == {"configmaps": "7", "count/configmaps": "7"}


async def test_a_create_that_collides_takes_nothing(api: Api) -> None:
    await limit(api, {"count/configmaps": "3"})
    await allowed(api, "v1/configmaps", config_map("c"))
    assert (await api.create("v1/configmaps", config_map("c")))[0] == 409
    assert await used(api) == {"count/configmaps": "1"}


async def test_dry_runs_are_judged_and_not_charged(api: Api) -> None:
    await limit(api, {"count/configmaps": "1"})
    for _ in range(2):
        assert (await api.create("v1/configmaps", config_map("c"), dryRun="All"))[0] == 201
    assert await used(api) == {"count/configmaps": "0"}
    await allowed(api, "v1/configmaps", config_map("c"))
    assert (await api.create("v1/configmaps", config_map("d"), dryRun="All"))[0] == 403


async def test_every_quota_must_have_room_and_none_is_charged_when_one_has_not(api: Api) -> None:
    await limit(api, {"pods": "5"}, name="wide")
    await limit(api, {"pods": "0"}, name="narrow")
    told = "exceeded quota: narrow, requested: pods=1, used: pods=0, limited: pods=0"
    assert await refusal(api, PODS, pod("a")) == told
    assert await used(api, "wide") == {"pods": "0"}


async def test_a_quota_that_nobody_has_counted_yet_limits_nothing(api: Api) -> None:
    await api.create(QUOTAS, {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "0"}}})
    await allowed(api, PODS, pod("a"))


async def test_what_is_limited_and_has_no_count_refuses(api: Api) -> None:
    await limit(api, {"pods": "1", "count/pods": "1"}, used={"pods": "0"})
    assert await refusal(api, PODS, pod("a")) == "status unknown for quota: q, resources: count/pods,pods"


async def test_pods_must_say_what_they_need_where_cpu_or_memory_is_limited(api: Api) -> None:
    await limit(api, {"limits.cpu": "2", "requests.memory": "1Gi"})
    second = {"name": "second", "image": "i", "resources": {"limits": {"cpu": "1"}}}
    made = pod("a", initContainers=[second])
    told = "failed quota: q: must specify limits.cpu for: main; requests.memory for: main,second"
    assert await refusal(api, PODS, made) == told
    await allowed(api, PODS, asking("b", {"memory": "1Mi"}, {"cpu": "1"}))


async def test_extended_resources_ephemeral_storage_and_huge_pages_are_counted(api: Api) -> None:
    hard = {"requests.example.com/gpu": "2", "limits.ephemeral-storage": "2Gi", "hugepages-2Mi": "4Mi"}
    await limit(api, hard)
    resources = {"example.com/gpu": "2", "ephemeral-storage": "1Gi", "hugepages-2Mi": "2Mi", "cpu": "1"}
    await allowed(api, PODS, asking("a", resources, resources))
    assert await used(api) == {
        "hugepages-2Mi": "2Mi",
        "limits.ephemeral-storage": "1Gi",
        "requests.example.com/gpu": "2",
    }
    told = "exceeded quota: q, requested: requests.example.com/gpu=1, used: requests.example.com/gpu=2, "
    gpu = {"example.com/gpu": "1"}
    assert await refusal(api, PODS, asking("b", gpu, gpu)) == f"{told}limited: requests.example.com/gpu=2"


@pytest.mark.parametrize(
    ("scopes", "inside", "outside"),
    [
        ({"scopes": ["BestEffort"]}, pod("in"), asking("out", {"cpu": "1"})),
        ({"scopes": ["NotBestEffort"]}, asking("in", {"cpu": "1"}), pod("out")),
        ({"scopes": ["Terminating"]}, pod("in", activeDeadlineSeconds=5), pod("out")),
        ({"scopes": ["NotTerminating"]}, pod("in"), pod("out", activeDeadlineSeconds=5)),
        (
            {"scopes": ["CrossNamespacePodAffinity"]},
            pod(
                "in",
                affinity={
                    "podAntiAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": [
                            {"topologyKey": "zone", "namespaces": ["other"], "labelSelector": {}}
                        ]
                    }
                },
            ),
            pod("out"),
        ),
        (
            {
                "scopeSelector": {
                    "matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]
                }
            },
            pod("in", priorityClassName="high"),
            pod("out"),
        ),
        (
            {
                "scopeSelector": {
                    "matchExpressions": [{"scopeName": "PriorityClass", "operator": "NotIn", "values": ["high"]}]
                }
            },
            pod("in"),
            pod("out", priorityClassName="high"),
        ),
    ],
    ids=lambda value: value["scopes"][0] if "scopes" in value else None,
)
async def test_a_quota_with_scopes_counts_what_is_in_all_of_them(
    api: Api, cluster: Api, scopes: JSON, inside: JSON, outside: JSON
) -> None:
    await cluster.create("scheduling.k8s.io/v1/priorityclasses", {"metadata": {"name": "high"}, "value": 1000})
    await limit(api, {"pods": "0"}, **scopes)
    assert (await refusal(api, PODS, inside)).startswith("exceeded quota: q, requested: pods=1")
    await allowed(api, PODS, outside)


async def test_a_pod_that_gets_a_deadline_moves_to_the_other_scope(api: Api) -> None:
    await limit(api, {"pods": "0"}, scopes=["Terminating"])
    await allowed(api, PODS, pod("a"))
    status, error = await api.patch(PODS, "a", {"spec": {"activeDeadlineSeconds": 5}})
    assert status == 403 and "exceeded quota: q, requested: pods=1" in error["message"]


async def test_claims_are_counted_altogether_and_by_class(api: Api) -> None:
    gold = "gold.storageclass.storage.k8s.io/"
    await limit(
        api, {"requests.storage": "10Gi", f"{gold}requests.storage": "3Gi", f"{gold}persistentvolumeclaims": "2"}
    )
    await allowed(api, CLAIMS, claim("a", "2Gi", "gold"))
    await allowed(api, CLAIMS, claim("b", "5Gi", "tin"))
    told = f"exceeded quota: q, requested: {gold}requests.storage=2Gi, used: {gold}requests.storage=2Gi, "
    assert await refusal(api, CLAIMS, claim("c", "2Gi", "gold")) == f"{told}limited: {gold}requests.storage=3Gi"
    assert await used(api) == {
        f"{gold}persistentvolumeclaims": "1",
        f"{gold}requests.storage": "2Gi",
        "requests.storage": "7Gi",
    }


async def test_devices_are_counted_by_class_for_the_worst(api: Api) -> None:
    gpus, nics = (f"{name}.deviceclass.resource.k8s.io/devices" for name in ("gpu", "nic"))
    await limit(api, {"count/resourceclaims.resource.k8s.io": "5", gpus: "6", nics: "40"})

    def asks(name: str, *requests: JSON) -> JSON:
        named = [{"name": f"r{number}", **request} for number, request in enumerate(requests)]
        return {"metadata": {"name": name}, "spec": {"devices": {"requests": named}}}

    def gpu(count: int, **more: str) -> JSON:
        return {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": count, **more}

    either = {"firstAvailable": [gpu(1, name="little"), gpu(3, name="much")]}
    every = {"exactly": {"deviceClassName": "nic", "allocationMode": "All"}}
    claims = "resource.k8s.io/v1/resourceclaims"
    await allowed(api, claims, asks("a", {"exactly": gpu(2)}, either, every))
    assert await used(api) == {"count/resourceclaims.resource.k8s.io": "1", gpus: "5", nics: "32"}
    status, error = await api.create(claims, asks("b", {"exactly": gpu(2)}))
    assert status == 403
    assert error["message"].endswith(f"exceeded quota: q, requested: {gpus}=2, used: {gpus}=5, limited: {gpus}=6")


async def test_services_are_counted_by_what_their_type_takes(api: Api) -> None:
    await limit(api, {"services": "4", "services.nodeports": "4", "services.loadbalancers": "1"})
    await allowed(api, SERVICES, service("plain"))
    await allowed(api, SERVICES, service("ports", "NodePort", ports=2))
    await allowed(api, SERVICES, service("quiet", "LoadBalancer", allocateLoadBalancerNodePorts=False))
    assert await used(api) == {"services": "3", "services.loadbalancers": "1", "services.nodeports": "2"}
    told = "exceeded quota: q, requested: services.loadbalancers=1,services.nodeports=3, "
    told += (
        "used: services.loadbalancers=1,services.nodeports=2, limited: services.loadbalancers=1,services.nodeports=4"
    )
    assert await refusal(api, SERVICES, service("more", "LoadBalancer", ports=3)) == told


async def test_a_service_that_changes_its_type_is_charged_for_what_is_new(api: Api) -> None:
    await limit(api, {"services": "1", "services.nodeports": "1"})
    await allowed(api, SERVICES, service("s"))
    status, made = await api.patch(SERVICES, "s", {"spec": {"type": "NodePort"}})
    assert status == 200, made
    assert await used(api) == {"services": "1", "services.nodeports": "1"}
    status, error = await api.patch(SERVICES, "s", {"spec": {"ports": [{"name": f"p{n}", "port": n} for n in (1, 2)]}})
    assert status == 403
    assert error["message"].endswith(
        "requested: services.nodeports=1, used: services.nodeports=1, limited: services.nodeports=1"
    )


async def test_any_resource_is_counted_by_its_name_and_group(api: Api) -> None:
    await limit(api, {"count/deployments.apps": "1"})
    await allowed(api, "apps/v1/deployments", deployment("a"))
    status, error = await api.create("apps/v1/deployments", deployment("b"))
    count = "count/deployments.apps=1"
    assert status == 403
    assert error["message"] == (
        f'deployments.apps "b" is forbidden: exceeded quota: q, requested: {count}, used: {count}, limited: {count}'
    )


async def test_a_count_leaves_room_for_what_has_been_charged_just_now(api: Api) -> None:
    await limit(api, {"count/configmaps": "5"})
    await allowed(api, "v1/configmaps", config_map("c"))
    _, quota = await api.get(QUOTAS, "q")
    quota["status"]["used"] = {"count/configmaps": "0"}
    status, made = await api.update(QUOTAS, quota, "status")
    assert status == 200
    assert made["status"]["used"] == {"count/configmaps": "1"}


async def test_other_namespaces_quotas_say_nothing(api: Api, cluster: Api) -> None:
    other = Api(api.transport, f"{api.namespace}-other")
    await allowed(cluster, "v1/namespaces", {"metadata": {"name": other.namespace}})
    await limit(other, {"configmaps": "0"})
    await refusal(other, "v1/configmaps", config_map("c"))
    await allowed(api, "v1/configmaps", config_map("c"))
    assert await used(other) == {"configmaps": "0"}
