"""Hashes in names are those that Kubernetes' controllers make of the same templates (values taken from there)."""

from __future__ import annotations

from kubecore.controllers import hashes

TEMPLATE = {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "nginx"}]}}


def test_a_pod_template_has_kubernetes_hash() -> None:
    assert hashes.of_template(TEMPLATE, None) == "5b589d4889"


def test_a_collision_makes_another_one_of_it_and_so_does_counting_none() -> None:
    assert len({hashes.of_template(TEMPLATE, count) for count in (None, 0, 1, 2)}) == 4


def test_what_is_empty_is_the_same_as_what_is_not_there() -> None:
    assert hashes.of_template({**TEMPLATE, "spec": {**TEMPLATE["spec"], "volumes": []}}, 1) == (
        hashes.of_template(TEMPLATE, 1)
    )


def test_a_revision_is_hashed_as_go_writes_it() -> None:
    data = {"spec": {"template": {"$patch": "replace", "args": ["<a> & b"]}}}
    assert hashes.of_revision(data, 0) == "5896f7d845"
    assert hashes.of_revision(data, 1) != hashes.of_revision(data, 0)
