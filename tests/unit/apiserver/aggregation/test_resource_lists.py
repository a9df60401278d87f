"""What extension API servers say that they serve, as it comes into our documents."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from kubecore.apiserver.aggregation.resource_lists import of_every_version, of_list

JSON = dict[str, Any]
NO_KIND = {"group": "", "version": "", "kind": ""}


def every(*resources: JSON, **more: Any) -> bytes:
    version = {"version": "v1", "resources": resources, "odd": 1}
    return orjson.dumps({"items": [{"metadata": {"name": "g"}, "versions": [version]}], **more})


def listed(*resources: JSON, **more: Any) -> bytes:
    return orjson.dumps({"groupVersion": "g/v1", "resources": resources, **more})


def test_what_is_not_said_of_a_resource_is_told_empty_and_what_nobody_knows_not_at_all() -> None:
    subresource = {"subresource": "status", "acceptedTypes": [{"kind": "Some"}], "odd": 2}
    told = of_every_version(every({"resource": "bare", "subresources": [subresource, None], "odd": 3}))
    nothing: JSON = {"subresource": "", "responseKind": NO_KIND, "verbs": None}
    accepted = {"subresource": "status", "acceptedTypes": [{**NO_KIND, "kind": "Some"}]}
    assert told == {
        ("g", "v1"): [
            {
                "resource": "bare",
                "responseKind": NO_KIND,
                "scope": "",
                "singularResource": "",
                "verbs": None,
                "subresources": [{**nothing, **accepted}, nothing],
            }
        ]
    }


@pytest.mark.parametrize(
    "body",
    [
        b"{oops",
        b"[]",
        every({"resource": "a", "verbs": "get"}),
        every({"resource": 1}),
        every("a"),  # type: ignore[arg-type]
        every(kind="Status"),
        every(apiVersion="apidiscovery.k8s.io/v9"),
    ],
)
def test_what_clients_could_not_read_is_refused_as_a_whole(body: bytes) -> None:
    with pytest.raises(ValueError):
        of_every_version(body)


def test_the_older_form_of_all_versions_is_read_too() -> None:
    whole = every({"resource": "a"}, kind="APIGroupDiscoveryList", apiVersion="apidiscovery.k8s.io/v2beta1")
    assert [one["resource"] for one in of_every_version(whole)["g", "v1"]] == ["a"]
    assert of_every_version(b'{"items": null}') == {}


def test_a_list_of_one_version_has_subresources_with_their_parents() -> None:
    a = {"name": "as", "singularName": "a", "namespaced": True, "kind": "A", "verbs": ["get"], "shortNames": ["x"]}
    told = of_list(
        listed(
            {"name": "alone/scale", "namespaced": True, "group": "autoscaling", "version": "v1", "kind": "Scale"},
            {"name": "as/status", "namespaced": True},
            a,
            {**a, "kind": "Second"},
        )
    )
    assert [(one["resource"], one["responseKind"]["kind"]) for one in told] == [
        ("as", "A"),
        ("as", "Second"),
        ("alone", ""),
    ]
    # As upstream has it, to the last of one name.
    status = {"subresource": "status", "responseKind": NO_KIND, "verbs": None}
    assert [one.get("subresources") for one in told[:2]] == [None, [status]]
    scale = {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    assert told[2]["subresources"] == [{"subresource": "scale", "responseKind": scale, "verbs": None}]
    assert (told[0]["shortNames"], told[0]["scope"], told[2]["scope"]) == (["x"], "Namespaced", "Namespaced")


def test_a_version_may_serve_nothing() -> None:
    assert of_list(b'{"resources": null}') == of_list(b"{}") == []


@pytest.mark.parametrize(
    "body",
    [
        listed(kind="Status"),
        listed({"name": "a", "verbs": "get"}),
        listed({"name": "a", "namespaced": True}, {"name": "a/b"}),
        b"",
    ],
)
def test_a_list_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):
        of_list(body)
