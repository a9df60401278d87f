"""What a namespace's LimitRanges give to pods, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Api, pod

pytestmark = pytest.mark.asyncio(loop_scope="module")

PODS, RANGES, CLAIMS = "v1/pods", "v1/limitranges", "v1/persistentvolumeclaims"


async def limit(api: Api, kind: str, **item: Any) -> None:
    body = {"metadata": {"name": kind.lower()}, "spec": {"limits": [{"type": kind, **item}]}}
    status, obj = await api.create(RANGES, body)
    assert status == 201, obj


def asking(requests: dict[str, str] | None = None, limits: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    made = pod("p", **spec)
    resources = {"requests": requests, "limits": limits}
    made["spec"]["containers"][0]["resources"] = {name: value for name, value in resources.items() if value}
    return made


async def refusal(api: Api, obj: dict[str, Any], path: str = PODS) -> str:
    status, error = await api.create(path, obj)
    assert (status, error["reason"]) == (403, "Forbidden")
    plural = path.rpartition("/")[2]
    return str(error["message"]).removeprefix(f'{plural} "p" is forbidden: ')


async def test_containers_get_what_they_do_not_ask_for_and_an_annotation_tells_of_it(api: Api) -> None:
    defaults = {"cpu": "500m", "memory": "256Mi"}
    await limit(api, "Container", default=defaults, defaultRequest={"cpu": "100m"})
    init = [{"name": "i", "image": "i"}]
    _, obj = await api.create(PODS, asking({"memory": "64Mi"}, initContainers=init))
    container = obj["spec"]["containers"][0]
    assert container["resources"] == {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": defaults}
    assert obj["spec"]["initContainers"][0]["resources"] == {
        "requests": {"cpu": "100m", "memory": "256Mi"},
        "limits": defaults,
    }
    assert obj["status"]["qosClass"] == "Burstable"
    assert obj["metadata"]["annotations"]["kubernetes.io/limit-ranger"] == (
        f"LimitRanger plugin set: cpu request for container {container['name']}; cpu, memory limit for container "
        f"{container['name']}; cpu, memory request for init container i; cpu, memory limit for init container i"
    )


@pytest.mark.parametrize(
    ("item", "requests", "limits", "told"),
    [
        ({"min": {"cpu": "1"}}, {"cpu": "500m"}, None, "minimum cpu usage per Container is 1, but request is 500m"),
        ({"max": {"cpu": "1"}}, {"cpu": "1"}, {"cpu": "2"}, "maximum cpu usage per Container is 1, but limit is 2"),
        (
            {"maxLimitRequestRatio": {"memory": "2"}},
            {"memory": "1Gi"},
            {"memory": "3Gi"},
            "memory max limit to request ratio per Container is 2, but provided ratio is 3.000000",
        ),
        (
            {"maxLimitRequestRatio": {"memory": "2"}},
            None,
            None,
            "memory max limit to request ratio per Container is 2, but no request is specified or request is 0",
        ),
        (
            {"min": {"cpu": "1", "memory": "1Gi"}},
            {"cpu": "500m", "memory": "1Mi"},
            None,
            "[minimum cpu usage per Container is 1, but request is 500m, "
            "minimum memory usage per Container is 1Gi, but request is 1Mi]",
        ),
    ],
)
async def test_a_container_outside_the_bounds_is_refused(
    api: Api, item: dict[str, Any], requests: dict[str, str] | None, limits: dict[str, str] | None, told: str
) -> None:
    await limit(api, "Container", **item)
    assert await refusal(api, asking(requests, limits)) == told


async def test_a_pod_is_taken_as_a_whole_with_its_sidecars_and_the_worst_of_its_init_containers(api: Api) -> None:
    await limit(api, "Pod", max={"memory": "2Gi"}, min={"cpu": "2"})
    big = {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}}
    sidecar = {"name": "s", "image": "i", "restartPolicy": "Always", "resources": big}
    init = {"name": "i", "image": "i", "resources": big}
    status, obj = await api.create(PODS, asking(initContainers=[sidecar, init], **{}) | {"metadata": {"name": "fits"}})
    assert status == 201, obj
    limits = {"memory": "1025Mi"}
    told = await refusal(api, asking({"cpu": "1"}, limits, initContainers=[sidecar, init]))
    assert told == "maximum memory usage per Pod is 2Gi, but limit is 2049Mi"
    told = await refusal(api, asking())
    assert told == (
        "[minimum cpu usage per Pod is 2.  No request is specified, "
        "maximum memory usage per Pod is 2Gi.  No limit is specified]"
    )


async def test_a_claim_outside_the_bounds_is_refused(api: Api) -> None:
    await limit(api, "PersistentVolumeClaim", min={"storage": "1Gi"}, max={"storage": "2Gi"})

    def claim(storage: str) -> dict[str, Any]:
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage}}}
        return {"metadata": {"name": "p"}, "spec": spec}

    start = "usage per PersistentVolumeClaim is"
    assert await refusal(api, claim("1Mi"), CLAIMS) == f"minimum storage {start} 1Gi, but request is 1Mi"
    assert await refusal(api, claim("3Gi"), CLAIMS) == f"maximum storage {start} 2Gi, but request is 3Gi"
    status, obj = await api.create(CLAIMS, claim("1Gi"))
    assert status == 201, obj


async def test_other_namespaces_ranges_say_nothing(api: Api) -> None:
    status, obj = await api.create(PODS, asking())
    assert status == 201
    assert "kubernetes.io/limit-ranger" not in (obj["metadata"].get("annotations") or {})


async def test_what_is_wrong_with_several_containers_alike_is_said_once(api: Api) -> None:
    await limit(api, "Container", max={"cpu": "1"})
    made = asking(limits={"cpu": "2"})
    made["spec"]["containers"].append({**made["spec"]["containers"][0], "name": "other"})
    assert await refusal(api, made) == "maximum cpu usage per Container is 1, but limit is 2"


async def test_a_pod_is_told_what_is_wrong_by_one_range(api: Api) -> None:
    await limit(api, "Container", max={"cpu": "1"})
    await limit(api, "Pod", max={"cpu": "1"})
    assert await refusal(api, asking(limits={"cpu": "2"})) == "maximum cpu usage per Container is 1, but limit is 2"


async def test_a_claim_on_its_way_out_loses_its_finalizers_whatever_was_limited_meanwhile(api: Api) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    made = {"metadata": {"name": "p", "finalizers": ["example.com/wait"]}, "spec": spec}
    status, obj = await api.create(CLAIMS, made)
    assert status == 201, obj
    await limit(api, "PersistentVolumeClaim", max={"storage": "1Mi"})
    told = "maximum storage usage per PersistentVolumeClaim is 1Mi, but request is 1Gi"
    status, obj = await api.update(CLAIMS, obj | {"metadata": obj["metadata"] | {"labels": {"a": "b"}}})
    assert (status, obj["message"]) == (403, f'persistentvolumeclaims "p" is forbidden: {told}')
    status, obj = await api.delete(CLAIMS, "p")
    assert status == 200 and obj["metadata"]["deletionTimestamp"]
    status, obj = await api.update(CLAIMS, obj | {"metadata": obj["metadata"] | {"finalizers": []}})
    assert status == 200, obj
