"""Metadata is checked alike for every kind."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubecore._native import is_plain_metadata
from kubecore.apiserver.registry.validation import names
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


texts = st.one_of(
    st.sampled_from(
        ["", "a", "web-1", "a.b", "a..b", "-a", "a-", "A", "a/b", "ex.com/n", "ex.com/n/m", "\u212a", "ä", "v1"]
    ),
    st.text("aB1-._/\u212a", max_size=6),
    st.sampled_from([63, 64, 253, 254]).map(lambda length: "a" * length),
)
pairs = st.dictionaries(texts, texts, max_size=3)
owners = st.fixed_dictionaries(
    {},
    optional={
        "apiVersion": st.sampled_from(["", "v1", "apps/v1", "apps/"]),
        "kind": st.sampled_from(["", "Event", "Node"]),
        "name": st.sampled_from(["", "n"]),
        "uid": st.sampled_from(["", "u"]),
        "controller": st.booleans(),
    },
)
all_metadata = st.fixed_dictionaries(
    {},
    optional={
        "name": texts,
        "generateName": texts,
        "namespace": texts,
        "generation": st.integers(-1, 2),
        "labels": pairs,
        "annotations": pairs,
        "ownerReferences": st.lists(owners, max_size=2),
        "finalizers": st.lists(texts, max_size=1),
        "uid": texts,
    },
)


@given(all_metadata, st.booleans())
def test_metadata_that_is_called_plain_is_what_the_rules_find_nothing_wrong_with(
    metadata: dict[str, Any], namespaced: bool
) -> None:
    if is_plain_metadata(metadata, namespaced):
        assert not validate_metadata({"metadata": metadata}, namespaced=namespaced, name_errors=names.dns_subdomain)


def test_metadata_as_controllers_write_it_is_plain() -> None:
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": True}
    metadata = {
        "generateName": "web-",
        "name": "web-abcde",
        "namespace": "default",
        "uid": "u",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {"app.kubernetes.io/name": "web", "empty": ""},
        "annotations": {"Example.com/Note": "anything at all"},
        "ownerReferences": [owner],
    }
    assert is_plain_metadata(metadata, True)
    assert not is_plain_metadata(metadata, False)


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
