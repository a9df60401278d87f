"""Metadata is checked alike for every kind."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.apiserver.registry.validation.metadata import validate_metadata, validate_metadata_update


def problems(*, namespaced: bool = True, **metadata: Any) -> list[str]:
    obj = {"metadata": {"name": "x", **({"namespace": "d"} if namespaced else {}), **metadata}}
    return [str(cause) for cause in validate_metadata(obj, namespaced=namespaced)]


def test_sound_metadata_has_no_problems() -> None:
    assert not problems(
        labels={"app.kubernetes.io/name": "web", "empty": ""},
        annotations={"Example.com/Note": "anything at all"},
        finalizers=["example.com/mine", "orphan"],
        ownerReferences=[{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": True}],
    )


def test_a_name_is_required() -> None:
    assert problems(name="") == ["metadata.name: Required value: name or generateName is required"]


@pytest.mark.parametrize("name", ["Upper", "under_score", "-start", "end-", "a..b", "ä"])
def test_a_name_is_a_dns_subdomain(name: str) -> None:
    (problem,) = problems(name=name)
    assert problem.startswith("metadata.name: Invalid value: ")
    assert "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.'" in problem


def test_a_name_has_at_most_253_characters() -> None:
    assert not problems(name="a" * 253)
    assert problems(name="a" * 254)[0].endswith("must be no more than 253 characters")


def test_a_generate_name_may_end_with_a_hyphen() -> None:
    assert not problems(generateName="web-")
    assert problems(generateName="Web-")[0].startswith('metadata.generateName: Invalid value: "Web-"')


def test_a_namespace_is_for_namespaced_kinds_only() -> None:
    assert problems(namespaced=False, namespace="d") == ["metadata.namespace: Forbidden: not allowed on this type"]
    assert problems(namespace="") == ["metadata.namespace: Required value"]


@pytest.mark.parametrize("key", ["", "a b", "/x", "a/b/c", "x" * 64, "-a"])
def test_label_keys_are_qualified_names(key: str) -> None:
    found = problems(labels={key: "v"})
    assert found
    assert all(one.startswith("metadata.labels: Invalid value: ") for one in found)


def test_label_values_have_at_most_63_characters() -> None:
    assert not problems(labels={"a": "v" * 63})
    assert problems(labels={"a": "v" * 64}) == [
        f'metadata.labels: Invalid value: "{"v" * 64}": must be no more than 63 bytes'
    ]


def test_annotations_have_a_limit_together() -> None:
    assert problems(annotations={"a": "v" * 200_000, "b": "v" * 100_000}) == [
        "metadata.annotations: Too long: may not be more than 262144 bytes"
    ]


def test_only_one_owner_controls() -> None:
    owner = {"apiVersion": "v1", "kind": "Node", "uid": "u", "controller": True}
    found = problems(ownerReferences=[{**owner, "name": "a"}, {**owner, "name": "b"}])
    assert len(found) == 1
    assert 'Found "true" in references for Node/a and Node/b' in found[0]


def test_an_owner_is_named_in_full() -> None:
    assert problems(ownerReferences=[{"apiVersion": "v1", "kind": "Node", "name": "", "uid": "u"}]) == [
        'metadata.ownerReferences.name: Invalid value: "": must not be empty'
    ]


def test_finalizers_are_standard_or_fully_qualified() -> None:
    assert problems(finalizers=["mine"]) == [
        'metadata.finalizers[0]: Invalid value: "mine": '
        "name is neither a standard finalizer name nor is it fully qualified"
    ]


def update_problems(new: dict[str, Any], old: dict[str, Any]) -> list[str]:
    return [str(cause) for cause in validate_metadata_update({"metadata": new}, {"metadata": old})]


def test_what_the_server_set_cannot_change() -> None:
    found = update_problems({"name": "x", "uid": "2"}, {"name": "x", "uid": "1"})
    assert found == ['metadata.uid: Invalid value: "2": field is immutable']


def test_an_object_being_deleted_takes_no_new_finalizers() -> None:
    old = {"deletionTimestamp": "t", "finalizers": ["example.com/a"]}
    assert not update_problems({"deletionTimestamp": "t", "finalizers": []}, old)
    found = update_problems({"deletionTimestamp": "t", "finalizers": ["example.com/a", "example.com/b"]}, old)
    assert found == [
        "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, "
        'found new finalizers []string{"example.com/b"}'
    ]
