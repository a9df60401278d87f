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
