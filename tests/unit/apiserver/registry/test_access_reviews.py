"""What is refused of access reviews, as kube-apiserver v1.35 has answered it."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.apiserver.registry.validation.access_reviews import validate_access_review

JSON = dict[str, Any]

ONE_OF = (
    "spec.resourceAttributes: Invalid value: null: "
    "exactly one of nonResourceAttributes or resourceAttributes must be specified"
)
NOBODY = 'spec.user: Invalid value: "": at least one of user or group must be specified'
FIELDS, LABELS = "spec.resourceAttributes.fieldSelector", "spec.resourceAttributes.labelSelector"


def told(spec: JSON, metadata: JSON | None = None, *, of_oneself: bool = False, namespaced: bool = False) -> list[str]:
    review = {"spec": spec, "metadata": metadata or {}}
    return [str(one) for one in validate_access_review(review, of_oneself=of_oneself, namespaced=namespaced)]


def test_everything_that_is_wrong_is_told_at_once() -> None:
    assert told({}) == [ONE_OF, NOBODY]
    assert told({}, of_oneself=True) == [ONE_OF]
    assert told({"groups": ["g"]}) == [ONE_OF]
    both = {"resourceAttributes": {}, "nonResourceAttributes": {"path": "/"}}
    detail = "cannot be specified in combination with resourceAttributes"
    shown = 'spec.nonResourceAttributes: Invalid value: {"Path":"/","Verb":""}'
    assert told(both) == [f"{shown}: {detail}", NOBODY]


def test_metadata_says_nothing_but_the_namespace_and_who_owns_what() -> None:
    spec = {"user": "x", "nonResourceAttributes": {}}
    assert told(spec, {"managedFields": [], "namespace": "a"}) == []
    owned = {"managedFields": [{"manager": "m"}], "name": "a"}
    shown = '{"name":"a","managedFields":[{"manager":"m"}]}'
    assert told(spec, owned) == [f"metadata: Invalid value: {shown}: must be empty"]
    local = {"user": "x", "resourceAttributes": {"namespace": "n"}}
    assert told(local, {"name": "a", "namespace": "n"}, namespaced=True) == [
        'metadata: Invalid value: {"name":"a","namespace":"n"}: must be empty except for namespace'
    ]


def test_a_local_review_is_about_resources_in_its_namespace() -> None:
    place = {"namespace": "n"}
    other = {"user": "x", "resourceAttributes": {"namespace": "m"}}
    assert told(other, place, namespaced=True) == [
        'spec.resourceAttributes.namespace: Invalid value: "m": must match metadata.namespace'
    ]
    assert told({"user": "x", "nonResourceAttributes": {}}, place, namespaced=True) == [
        'spec.nonResourceAttributes: Invalid value: {"Path":"","Verb":""}: disallowed on this kind of request'
    ]
    assert told({}, place, namespaced=True) == [ONE_OF, NOBODY]


@pytest.mark.parametrize(
    ("selectors", "causes"),
    [
        (
            {"fieldSelector": {}, "labelSelector": {}},
            [
                f"{path}.requirements: Required value: "
                f"when {path} is specified, requirements or rawSelector is required"
                for path in (FIELDS, LABELS)
            ],
        ),
        (
            {"fieldSelector": {"rawSelector": "a=b", "requirements": [{"key": "a", "operator": "Exists"}]}},
            [f'{FIELDS}.rawSelector: Invalid value: "a=b": may not specified at the same time as requirements'],
        ),
        (
            {"fieldSelector": {"requirements": [{"operator": "In"}, {"key": "a", "operator": "New", "values": ["b"]}]}},
            [
                f"{FIELDS}.requirements[0].key: Required value: must be specified",
                f"{FIELDS}.requirements[0].values: Required value: "
                "must be specified when `operator` is 'In' or 'NotIn'",
            ],
        ),
        (
            {"labelSelector": {"requirements": [{"key": "a", "operator": "Exists", "values": ["b"]}]}},
            [
                f"{LABELS}.requirements[0].values: Forbidden: "
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ],
        ),
        ({"labelSelector": {"requirements": [{"key": "a", "operator": "New"}]}}, []),
    ],
)
def test_selectors_are_whole_and_may_have_operators_of_newer_clients(selectors: JSON, causes: list[str]) -> None:
    assert told({"user": "x", "resourceAttributes": selectors}) == causes
