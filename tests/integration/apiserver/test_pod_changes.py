"""Pods through their subresources: resize, ephemeral containers, status. As a real API server answers."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Api, pod

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = dict[str, Any]
PODS = "v1/pods"
AMOUNTS = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "200m", "memory": "128Mi"}}


def sized(**amounts: JSON) -> JSON:
    """A pod with a main container, an init container and a sidecar."""
    made = pod("p")
    made["spec"]["containers"][0]["resources"] = amounts or AMOUNTS
    made["spec"]["initContainers"] = [
        {"name": "init", "image": "none"},
        {"name": "side", "image": "none", "restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}},
    ]
    return made


async def resized(api: Api, **resources: JSON) -> tuple[int, JSON]:
    patch = [{"op": "replace", "path": "/spec/containers/0/resources", "value": resources}]
    return await api.patch(PODS, "p", patch, "json-patch", "resize")


def causes(error: JSON) -> list[tuple[str, str]]:
    return [(one.get("field", ""), one["message"]) for one in error["details"]["causes"]]


async def test_cpu_and_memory_of_containers_and_sidecars_can_be_resized(api: Api) -> None:
    await api.create(PODS, sized())
    status, obj = await resized(
        api, requests={"cpu": "150m", "memory": "32Mi"}, limits={"cpu": "300m", "memory": "64Mi"}
    )
    assert (status, obj["metadata"]["generation"]) == (200, 2)
    assert obj["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "300m", "memory": "64Mi"}
    path = "/spec/initContainers/1/resources/requests/cpu"
    status, _ = await api.patch(PODS, "p", [{"op": "replace", "path": path, "value": "2"}], "json-patch", "resize")
    assert status == 200


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        (
            {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
            ("spec.containers[0].resources.limits", "Forbidden: resource limits cannot be removed"),
        ),
        (
            {
                "requests": {**AMOUNTS["requests"], "ephemeral-storage": "1Gi"},
                "limits": AMOUNTS["limits"],
            },
            ("spec", "Forbidden: only cpu and memory resources are mutable"),
        ),
    ],
)
async def test_a_resize_removes_nothing_and_touches_nothing_but_cpu_and_memory(
    api: Api, resources: JSON, expected: tuple[str, str]
) -> None:
    await api.create(PODS, sized())
    status, error = await resized(api, **resources)
    assert status == 422
    assert expected in causes(error)


async def test_a_resize_keeps_the_quality_of_service(api: Api) -> None:
    made = sized()
    del made["spec"]["initContainers"]
    await api.create(PODS, made)
    status, error = await resized(api, requests=AMOUNTS["limits"], limits=AMOUNTS["limits"])
    assert status == 422
    assert causes(error) == [
        ("spec", 'Invalid value: "Burstable": Pod QOS Class may not change as a result of resizing')
    ]


@pytest.mark.parametrize(
    ("operation", "field", "message"),
    [
        (
            {"op": "replace", "path": "/spec/initContainers/0/resources", "value": {"requests": {"cpu": "1"}}},
            "spec",
            "resources for non-sidecar init containers are immutable",
        ),
        (
            {"op": "remove", "path": "/spec/initContainers/1/resources/requests/cpu"},
            "spec.initContainers[1].resources.requests",
            "resource requests cannot be removed",
        ),
        (
            {"op": "replace", "path": "/spec/containers/0/name", "value": "x"},
            "spec.containers[0].name",
            "containers may not be renamed or reordered on resize",
        ),
        (
            {"op": "add", "path": "/spec/containers/-", "value": {"name": "x", "image": "x"}},
            "spec.containers",
            "containers may not be added or removed on resize",
        ),
    ],
)
async def test_a_resize_changes_no_other_containers(api: Api, operation: JSON, field: str, message: str) -> None:
    await api.create(PODS, sized())
    status, error = await api.patch(PODS, "p", [operation], "json-patch", "resize")
    assert status == 422
    assert (field, f"Forbidden: {message}") in causes(error)


async def test_what_is_none_of_a_resizes_business_stays_and_is_owned_by_who_sent_it(api: Api) -> None:
    """Upstream's field manager does not know what a resize resets."""
    await api.create(PODS, sized())
    patch = [
        {"op": "add", "path": "/metadata/labels", "value": {"a": "b"}},
        {"op": "replace", "path": "/spec/containers/0/image", "value": "other"},
        {"op": "replace", "path": "/spec/containers/0/resources/requests/cpu", "value": "120m"},
    ]
    status, obj = await api.patch(PODS, "p", patch, "json-patch", "resize", fieldManager="resizer")
    assert (status, obj["spec"]["containers"][0]["image"], "labels" in obj["metadata"]) == (200, "none", False)
    (own,) = [one for one in obj["metadata"]["managedFields"] if one["manager"] == "resizer"]
    cpu = {"f:resources": {"f:requests": {"f:cpu": {}}}}
    labels = {"f:metadata": {"f:labels": {".": {}, "f:a": {}}}}
    assert own["fieldsV1"] == labels | {"f:spec": {"f:containers": {'k:{"name":"main"}': cpu | {"f:image": {}}}}}


async def test_a_resize_of_nothing_writes_nothing_but_who_sent_what_it_does_not_change(api: Api) -> None:
    _, made = await api.create(PODS, sized())
    status, same = await api.update(PODS, made, "resize", fieldManager="resizer")
    assert (status, same) == (200, made)
    made["spec"]["containers"][0]["image"] = "other"
    _, sent = await api.update(PODS, made, "resize", fieldManager="resizer")
    (own,) = [one for one in sent["metadata"]["managedFields"] if one["manager"] == "resizer"]
    assert own["fieldsV1"] == {"f:spec": {"f:containers": {'k:{"name":"main"}': {"f:image": {}}}}}
    assert sent["spec"] == same["spec"]


async def test_pods_of_static_files_and_of_windows_are_not_resized(api: Api) -> None:
    made = sized()
    made["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    made["spec"]["nodeName"] = "n"
    await api.create(PODS, made)
    status, error = await resized(api, requests={"cpu": "1m", "memory": "64Mi"}, limits=AMOUNTS["limits"])
    assert (status, causes(error)) == (422, [("[]", "Forbidden: static pods cannot be resized")])
    patch = {"spec": {"ephemeralContainers": [{"name": "e", "image": "x"}]}}
    status, error = await api.patch(PODS, "p", patch, "strategic-merge-patch", "ephemeralcontainers")
    assert (status, causes(error)) == (422, [("[]", "Forbidden: static pods do not support ephemeral containers")])


async def test_a_node_that_cannot_resize_is_not_asked_to(api: Api) -> None:
    await api.create(PODS, sized())
    running = {
        "name": "main",
        "image": "none",
        "imageID": "",
        "ready": True,
        "restartCount": 0,
        "state": {"running": {}},
    }
    await api.patch(PODS, "p", {"status": {"containerStatuses": [running]}}, subresource="status")
    status, error = await resized(api, requests={"cpu": "1m", "memory": "64Mi"}, limits=AMOUNTS["limits"])
    assert (status, causes(error)[0][1]) == (422, "Forbidden: Pod running on node without support for resize")


async def test_ephemeral_containers_are_added_first_and_change_nothing_else(api: Api) -> None:
    await api.create(PODS, pod("p"))
    for name in ("one", "two"):
        patch = {"metadata": {"labels": {"x": "y"}}, "spec": {"ephemeralContainers": [{"name": name, "image": "i"}]}}
        status, obj = await api.patch(PODS, "p", patch, "strategic-merge-patch", "ephemeralcontainers")
        assert status == 200
    assert [one["name"] for one in obj["spec"]["ephemeralContainers"]] == ["two", "one"]
    assert "labels" not in obj["metadata"]
    assert (await api.patch(PODS, "p", patch, "strategic-merge-patch"))[0] == 200
    status, error = await api.patch(
        PODS, "p", {"spec": {"ephemeralContainers": []}}, "merge-patch", "ephemeralcontainers"
    )
    assert status == 422
    assert 'existing ephemeral containers "two" may not be removed' in error["message"]


async def test_the_status_of_a_pod_says_nothing_of_its_owners(api: Api) -> None:
    await api.create(PODS, pod("p"))
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x"}
    patch = {"metadata": {"labels": {"a": "b"}, "ownerReferences": [owner]}, "status": {"phase": "Running"}}
    status, obj = await api.patch(PODS, "p", patch, subresource="status")
    assert (status, obj["metadata"]["labels"], "ownerReferences" in obj["metadata"]) == (200, {"a": "b"}, False)
