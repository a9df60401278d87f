"""What of an object decides who owns what of it once it is new."""

from typing import Any

import orjson
import pytest

from kubecore._native import outline
from kubecore.api import schemas

JSON = dict[str, Any]

EVENT: JSON = {
    "apiVersion": "v1",
    "kind": "Event",
    "metadata": {"name": "a.1", "namespace": "default"},
    "involvedObject": {"kind": "Pod", "name": "a"},
    "count": 1,
    "eventTime": None,
    "source": {"component": "tester"},
}


def managed(event: JSON) -> bytes | None:
    kind = schemas.BuiltinKind(schemas.default(), "v1/Event")
    return kind.managed(None, orjson.dumps(event), manager="tester", time="2026-01-01T00:00:00Z")


def test_objects_that_differ_in_what_they_say_have_one_outline_and_one_owner_of_each_field() -> None:
    other = {**EVENT, "metadata": {"name": "b.2", "namespace": "c"}, "involvedObject": {"kind": "Node", "name": "b"}}
    assert outline(other) == outline(EVENT)
    assert managed(other) == managed(EVENT)


@pytest.mark.parametrize(
    "changed",
    [
        {"reason": "Pulled"},
        {"source": {}},
        {"source": {"component": "tester", "host": "n1"}},
        {"eventTime": "2026-01-01T00:00:00.000000Z"},
        {"related": {"kind": "Pod"}},
        {"metadata": {"name": "a.1", "namespace": "default", "labels": {"app": "web"}}},
    ],
)
def test_another_member_makes_another_outline(changed: JSON) -> None:
    assert outline({**EVENT, **changed}) != outline(EVENT)


def test_an_object_with_a_list_has_no_outline() -> None:
    assert outline({**EVENT, "metadata": {"name": "a", "finalizers": ["example.com/one"]}}) is None
