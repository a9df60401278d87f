"""The roles that every cluster starts with, as they are written."""

from __future__ import annotations

from kubecore.apiserver.bootstrap.roles import cluster_role_bindings
from kubecore.apiserver.bootstrap.rules import rule, urls


def test_whatever_a_default_rule_lists_is_in_order() -> None:
    made = rule("update create", ("events.k8s.io", ""), "pods events", names="b a")
    assert made == {
        "verbs": ["create", "update"],
        "apiGroups": ["", "events.k8s.io"],
        "resources": ["events", "pods"],
        "resourceNames": ["a", "b"],
    }
    assert urls("post get", "/b /a") == {"verbs": ["get", "post"], "nonResourceURLs": ["/a", "/b"]}


def test_the_binding_of_nodes_has_no_subjects_and_says_none() -> None:
    [found] = [one for one in cluster_role_bindings() if one["metadata"]["name"] == "system:node"]
    assert "subjects" not in found
