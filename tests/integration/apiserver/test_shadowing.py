"""Definitions in the groups of built-in kinds. As upstream: they get their names, and nobody comes to their objects."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Api
from .definitions import DEFINITIONS, condition, crd, define, gone, until, version

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = dict[str, Any]
INGRESSES = "networking.k8s.io/v1/ingresses"
APPROVED = {"api-approved.kubernetes.io": "https://github.com/kubernetes/enhancements/pull/1111"}


def shadow(plural: str, kind: str, name: str) -> JSON:
    made = crd(plural, kind, version(name), group="networking.k8s.io")
    made["metadata"]["annotations"] = APPROVED
    return made


async def test_it_is_given_its_names_though_a_built_in_resource_has_them(cluster: Api) -> None:
    made = await define(cluster, shadow("ingresses", "Ingress", "v7"))
    assert condition(made, "NamesAccepted")["reason"] == "NoConflicts"
    assert made["status"]["acceptedNames"]["plural"] == "ingresses"
    await cluster.delete(DEFINITIONS, "ingresses.networking.k8s.io")
    await gone(cluster, "ingresses.networking.k8s.io")


async def test_nobody_comes_to_its_objects(api: Api, cluster: Api) -> None:
    await define(cluster, shadow("gateways", "Gateway", "v7"))
    obj = {"apiVersion": "networking.k8s.io/v7", "kind": "Gateway", "metadata": {"name": "a"}, "spec": {"size": 1}}
    for method, body in (("GET", None), ("POST", obj)):
        status, refused = await api.call(method, api.path("networking.k8s.io/v7/gateways"), body)
        assert (status, refused["message"]) == (404, "the server could not find the requested resource")
    await cluster.delete(DEFINITIONS, "gateways.networking.k8s.io")
    await gone(cluster, "gateways.networking.k8s.io")


async def test_what_it_would_share_with_built_in_objects_is_let_be_and_told(cluster: Api) -> None:
    for plural, kind, group in (
        ("customresourcedefinitions", "CustomResourceDefinition", "apiextensions.k8s.io"),
        ("apiservices", "APIService", "apiregistration.k8s.io"),
    ):
        made = crd(plural, kind, group=group)
        made["metadata"]["annotations"] = APPROVED
        made["metadata"]["finalizers"] = ["example.com/watch"]
        name = f"{plural}.{group}"
        await define(cluster, made)
        await cluster.delete(DEFINITIONS, name)
        told = condition(await until(cluster, name, "Terminating", "False"), "Terminating")
        assert (told["reason"], told["message"]) == (
            "OverlappingBuiltInResource",
            "instances overlap with built-in resources in storage",
        )
        await cluster.patch(DEFINITIONS, name, {"metadata": {"finalizers": None}})
        await gone(cluster, name)


async def test_built_in_objects_stay_where_it_comes_and_goes(api: Api, cluster: Api) -> None:
    backend = {"service": {"name": "s", "port": {"number": 80}}}
    assert (await api.create(INGRESSES, {"metadata": {"name": "a"}, "spec": {"defaultBackend": backend}}))[0] == 201
    await define(cluster, shadow("ingresses", "Ingress", "v1"))
    _, shown = await api.get(INGRESSES, "a")
    assert shown["spec"] == {"defaultBackend": backend}
    await cluster.delete(DEFINITIONS, "ingresses.networking.k8s.io")
    await gone(cluster, "ingresses.networking.k8s.io")
    assert (await api.get(INGRESSES, "a"))[0] == 200
