"""Keys that upstream's refusals name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kubecore.api import scheme
from kubecore.apiserver.registry.upstream_keys import upstream_key


@pytest.mark.parametrize(
    ("resource", "key"),
    [
        ("configmaps", "/configmaps/x/a"),
        ("deployments.apps", "/deployments/x/a"),
        ("nodes", "/minions/a"),
        ("namespaces", "/namespaces/a"),
        ("services", "/services/specs/x/a"),
        ("endpoints", "/services/endpoints/x/a"),
        ("ingresses.networking.k8s.io", "/ingress/x/a"),
        ("replicationcontrollers", "/controllers/x/a"),
        ("customresourcedefinitions.apiextensions.k8s.io", "/apiextensions.k8s.io/customresourcedefinitions/a"),
        ("apiservices.apiregistration.k8s.io", "/apiregistration.k8s.io/apiservices/a"),
    ],
)
def test_an_object_is_below_its_resource_wherever_upstream_keeps_that(resource: str, key: str) -> None:
    assert upstream_key(scheme.every().resource(resource), "x", "a") == key


def test_custom_resources_are_below_their_group() -> None:
    widgets = replace(
        scheme.every().resource("configmaps"),
        group="example.com",
        plural="widgets",
        key="widgets.example.com",
        storage_version="v1",
    )
    assert upstream_key(widgets, "x", "a") == "/example.com/widgets/x/a"
    assert upstream_key(widgets, "x") == "/example.com/widgets/x"
