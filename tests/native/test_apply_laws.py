"""Laws of server-side apply, for a built-in kind and a custom one: random configurations of several managers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubecore.api import schemas
from kubecore.api.schemas import BuiltinKind, KindSchema

JSON = dict[str, Any]
T0, T1 = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"

CUSTOM = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "size": {"type": "integer"},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "port": {"x-kubernetes-int-or-string": True},
                "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {"a": {"type": "string"}}},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "parts": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name", "kind"],
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {
                            "name": {"type": "string"},
                            "kind": {"type": "string", "default": "plain"},
                            "value": {"type": "string"},
                            "steps": {"type": "array", "items": {"type": "string"}},
                        },
                    },
                },
            },
        }
    },
}

VALUES = st.sampled_from(["1", "2"])


def some(names: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[JSON]:
    return st.dictionaries(st.sampled_from(names), values, min_size=1, max_size=3)


def maybe(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[JSON]:
    return st.fixed_dictionaries({}, optional=members)


def things(names: str) -> st.SearchStrategy[JSON]:
    """Of a Thing, with what is known by one of the names alone."""
    part = st.fixed_dictionaries(
        {"name": st.sampled_from(names)},
        optional={"kind": VALUES, "value": VALUES, "steps": st.lists(VALUES, min_size=1, max_size=2)},
    )
    spec = maybe(
        labels=some(names, VALUES),
        tags=st.lists(st.sampled_from(names), min_size=1, unique=True),
        free=some(names, some("xy", VALUES)),
        parts=st.lists(part, min_size=1, max_size=3, unique_by=lambda one: (one["name"], one.get("kind", "plain"))),
    )
    return spec.map(lambda made: {"apiVersion": "ex.com/v1", "kind": "Thing", "metadata": {"name": "o"}, "spec": made})


def deployments(names: str) -> st.SearchStrategy[JSON]:
    env = st.fixed_dictionaries({"name": st.sampled_from(names), "value": VALUES})
    port = st.fixed_dictionaries(
        {"containerPort": st.sampled_from([ord(name) for name in names])},
        optional={"protocol": st.sampled_from(["TCP", "UDP"]), "name": VALUES},
    )
    container = st.fixed_dictionaries(
        {"name": st.sampled_from(names), "image": VALUES},
        optional={
            "env": st.lists(env, min_size=1, max_size=2, unique_by=lambda one: one["name"]),
            "ports": st.lists(
                port, min_size=1, max_size=2, unique_by=lambda one: (one["containerPort"], one.get("protocol", "TCP"))
            ),
            "args": st.lists(VALUES, min_size=1, max_size=2),
        },
    )
    secret = st.fixed_dictionaries({"name": st.sampled_from(names)})
    pod = maybe(
        containers=st.lists(container, min_size=1, max_size=2, unique_by=lambda one: one["name"]),
        imagePullSecrets=st.lists(secret, min_size=1, max_size=2, unique_by=lambda one: one["name"]),
    )
    metadata = maybe(labels=some(names, VALUES), annotations=some(names, VALUES))

    def made(pod: JSON, metadata: JSON) -> JSON:
        spec = {"template": {"spec": pod}}
        return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "o", **metadata}, "spec": spec}

    return st.builds(made, pod, metadata)


@pytest.fixture(scope="module", params=["Deployment", "Thing"])
def kind(request: pytest.FixtureRequest) -> tuple[KindSchema, Callable[[str], st.SearchStrategy[JSON]]]:
    if request.param == "Deployment":
        return BuiltinKind(schemas.default(), "apps/v1/Deployment"), deployments
    return schemas.custom(orjson.dumps(CUSTOM), api_version="ex.com/v1", kind="Thing"), things


Kind = tuple[KindSchema, Callable[[str], st.SearchStrategy[JSON]]]


def applied(schema: KindSchema, live: bytes | None, config: JSON, manager: str, *, time: str = T0) -> bytes:
    """By force, with the managedFields that it leaves."""
    outcome = schema.apply(live, orjson.dumps(config), manager=manager, time=time, force=True)
    obj = orjson.loads(outcome.body)
    obj["metadata"]["managedFields"] = orjson.loads(outcome.managed)
    return orjson.dumps(obj)


def owned(body: bytes) -> dict[str, Any]:
    return {entry["manager"]: entry["fieldsV1"] for entry in orjson.loads(body)["metadata"].get("managedFields", [])}


def content(body: bytes) -> JSON:
    """Without who owns it, and in an order of its own: where lists are known by keys it tells who came first."""
    obj: JSON = orjson.loads(body)
    obj["metadata"].pop("managedFields", None)
    ordered: JSON = unordered(obj)
    return ordered


def unordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: unordered(one) for name, one in value.items() if one not in ({}, [])}
    if isinstance(value, list):
        return sorted((unordered(one) for one in value), key=orjson.dumps)
    return value


@given(data=st.data())
def test_to_apply_twice_is_to_apply_once(kind: Kind, data: st.DataObject) -> None:
    schema, configurations = kind
    live = applied(schema, None, data.draw(configurations("abc")), "other")
    config = data.draw(configurations("abc"))
    once = applied(schema, live, config, "me")
    assert applied(schema, once, config, "me", time=T1) == once


@given(data=st.data())
def test_managers_of_different_things_may_come_in_any_order(kind: Kind, data: st.DataObject) -> None:
    schema, configurations = kind
    mine, yours = data.draw(configurations("abc")), data.draw(configurations("xyz"))
    one = applied(schema, applied(schema, None, mine, "me"), yours, "you")
    other = applied(schema, applied(schema, None, yours, "you"), mine, "me")
    assert (content(one), owned(one)) == (content(other), owned(other))


@given(data=st.data())
def test_who_takes_all_back_leaves_what_was_there_before(kind: Kind, data: st.DataObject) -> None:
    schema, configurations = kind
    mine, yours = data.draw(configurations("abc")), data.draw(configurations("xyz"))
    before = applied(schema, None, yours, "you")
    nothing = {**mine, "metadata": {"name": "o"}}
    del nothing["spec"]
    after = applied(schema, applied(schema, before, mine, "me"), nothing, "me")
    assert content(after) == content(before)
    assert owned(after)["you"] == owned(before)["you"]


@given(data=st.data())
def test_what_is_applied_by_force_is_there_and_owned(kind: Kind, data: st.DataObject) -> None:
    schema, configurations = kind
    live = applied(schema, None, data.draw(configurations("abc")), "other")
    config = data.draw(configurations("abc"))
    done = applied(schema, live, config, "me")
    alone = applied(schema, None, config, "me")
    assert owned(done)["me"] == owned(alone)["me"]
    # Whoever applies what is there is in nobody's way.
    again = schema.apply(done, orjson.dumps(config), manager="third", time=T1, force=False)
    assert content(again.body) == content(done)
