"""An Ingress that names no class gets the default one."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Api

pytestmark = pytest.mark.asyncio(loop_scope="module")

INGRESSES, CLASSES = "networking.k8s.io/v1/ingresses", "networking.k8s.io/v1/ingressclasses"


def ingress(name: str, annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    return {"metadata": {"name": name, "annotations": annotations or {}}, "spec": {"defaultBackend": backend, **spec}}


async def class_of(api: Api, obj: dict[str, Any]) -> str | None:
    status, made = await api.create(INGRESSES, obj)
    assert status == 201, made
    found: str | None = made["spec"].get("ingressClassName")
    return found


async def test_an_ingress_that_names_no_class_gets_the_default_one(api: Api, cluster: Api) -> None:
    assert await class_of(api, ingress("before")) is None
    for name, default in (("b", "true"), ("a", "true"), ("c", "false")):
        annotations = {"ingressclass.kubernetes.io/is-default-class": default}
        made = {"metadata": {"name": name, "annotations": annotations}, "spec": {"controller": "x.y/z"}}
        status, answer = await cluster.create(CLASSES, made)
        assert status == 201, answer
    # The newest, and the first by name of those made within a second.
    created = {name: (await cluster.get(CLASSES, name))[1]["metadata"]["creationTimestamp"] for name in "ab"}
    expected = min(name for name in created if created[name] == max(created.values()))
    assert await class_of(api, ingress("after")) == expected
    assert await class_of(api, ingress("named", ingressClassName="c")) == "c"
    assert await class_of(api, ingress("annotated", {"kubernetes.io/ingress.class": "nginx"})) is None
    for name in "abc":
        await cluster.delete(CLASSES, name)
