"""What admission does to claims and volumes."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Api

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLAIMS, CLASSES = "v1/persistentvolumeclaims", "storage.k8s.io/v1/storageclasses"
_DEFAULT = {"storageclass.kubernetes.io/is-default-class": "true"}


def claim(name: str, **spec: Any) -> dict[str, Any]:
    resources = {"requests": {"storage": "1Gi"}}
    return {"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": resources, **spec}}


async def class_of(api: Api, obj: dict[str, Any]) -> str | None:
    status, made = await api.create(CLAIMS, obj)
    assert status == 201, made
    found: str | None = made["spec"].get("storageClassName")
    return found


async def test_a_claim_that_names_no_class_gets_the_default_one(api: Api, cluster: Api) -> None:
    name = "default-class"
    assert await class_of(api, claim("before")) is None
    marked = {"metadata": {"name": name, "annotations": _DEFAULT}, "provisioner": "a.b/c"}
    status, made = await cluster.create(CLASSES, marked)
    assert status == 201, made
    assert await class_of(api, claim("after")) == name
    assert await class_of(api, claim("none", storageClassName="")) == ""
    assert await class_of(api, claim("other", storageClassName="other")) == "other"
    await cluster.delete(CLASSES, name)


@pytest.mark.parametrize(
    ("path", "obj", "finalizer"),
    [
        (CLAIMS, claim("c"), "kubernetes.io/pvc-protection"),
        (
            "v1/persistentvolumes",
            {
                "metadata": {"name": "v"},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "capacity": {"storage": "1Gi"},
                    "hostPath": {"path": "/tmp/x"},
                },
            },
            "kubernetes.io/pv-protection",
        ),
        (
            "storage.k8s.io/v1/volumeattributesclasses",
            {"metadata": {"name": "gold"}, "driverName": "a.b/c", "parameters": {"iops": "1"}},
            "kubernetes.io/vac-protection",
        ),
    ],
)
async def test_what_may_be_in_use_is_protected_from_the_start(
    api: Api, cluster: Api, path: str, obj: dict[str, Any], finalizer: str
) -> None:
    where = api if path == CLAIMS else cluster
    _, made = await where.create(path, {**obj, "metadata": {**obj["metadata"], "finalizers": ["a/b"]}})
    assert made["metadata"]["finalizers"] == ["a/b", finalizer]


async def grow(api: Api, name: str) -> tuple[int, str]:
    patch = {"spec": {"resources": {"requests": {"storage": "2Gi"}}}}
    status, answer = await api.patch(CLAIMS, name, patch)
    return status, str(answer.get("message", ""))


async def test_only_bound_claims_of_a_class_that_allows_it_may_grow(api: Api, cluster: Api) -> None:
    for name, allows in (("fixed", False), ("grows", True)):
        made = {"metadata": {"name": name}, "provisioner": "a.b/c", "allowVolumeExpansion": allows}
        assert (await cluster.create(CLASSES, made))[0] == 201
        assert await class_of(api, claim(name, storageClassName=name)) == name
        assert (await grow(api, name))[0] == 422
        await api.patch(CLAIMS, name, {"status": {"phase": "Bound"}}, subresource="status")
    assert await grow(api, "grows") == (200, "")
    status, message = await grow(api, "fixed")
    assert status == 403
    assert message.endswith("the storageclass that provisions the pvc must support resize")
