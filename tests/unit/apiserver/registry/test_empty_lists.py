"""Empty lists that are always there, wherever they are."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.api import scheme
from kubecore.apiserver.registry.empty_lists import _PATHS, paths_of, to_null

JSON = dict[str, Any]


def nulled(resource_key: str, obj: JSON) -> JSON:
    to_null(obj, paths_of(resource_key))
    return obj


def test_an_empty_list_is_null_and_a_missing_one_is_missing() -> None:
    assert nulled("roles.rbac.authorization.k8s.io", {"rules": []}) == {"rules": None}
    assert nulled("roles.rbac.authorization.k8s.io", {"rules": [{}]}) == {"rules": [{}]}
    assert nulled("roles.rbac.authorization.k8s.io", {}) == {}
    assert nulled("limitranges", {"spec": None}) == {"spec": None}
    definitions = "customresourcedefinitions.apiextensions.k8s.io"
    assert nulled(definitions, {"status": {"conditions": []}}) == {"status": {"conditions": None}}


def test_each_element_of_a_list_has_its_own() -> None:
    images = [{"names": []}, {"names": ["a"]}, {}]
    assert nulled("nodes", {"status": {"images": images}})["status"]["images"] == [
        {"names": None},
        {"names": ["a"]},
        {},
    ]
    spec = {"rules": [{"resourceRules": [{"namespaces": []}]}, {"nonResourceRules": []}]}
    nulled("flowschemas.flowcontrol.apiserver.k8s.io", {"spec": spec})
    assert spec["rules"] == [{"resourceRules": [{"namespaces": None}]}, {"nonResourceRules": []}]


@pytest.mark.parametrize("key", ["deployments.apps", "jobs.batch", "replicationcontrollers"])
def test_templates_have_those_of_their_pods(key: str) -> None:
    volumes: list[JSON] = [{"name": "a", "projected": {"sources": []}}, {"name": "b", "emptyDir": {}}]
    nulled(key, {"spec": {"template": {"spec": {"volumes": volumes}}}})
    assert volumes == [{"name": "a", "projected": {"sources": None}}, {"name": "b", "emptyDir": {}}]


def test_all_are_of_kinds_that_there_are() -> None:
    assert _PATHS.keys() <= {resource.key for resource in scheme.every().resources}
