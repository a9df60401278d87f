"""managedFields on their way from an object to its Scale and back."""

from __future__ import annotations

from typing import Any

from kubecore.apiserver.handlers.scale_ownership import to_parent, to_scale

JSON = dict[str, Any]
REPLICAS: JSON = {"f:spec": {"f:replicas": {}}}
MORE: JSON = {"f:spec": {"f:replicas": {}, "f:paused": {}}}
TIME = "2026-01-01T00:00:00Z"


def path_of(version: str) -> tuple[str, ...] | None:
    if version == "apps/without":
        return ()
    return ("spec", "replicas") if version.startswith("apps/") else None


def entry(manager: str, fields: JSON, *, apply: bool = False, version: str = "apps/v1", sub: str = "") -> JSON:
    made = {
        "manager": manager,
        "operation": "Apply" if apply else "Update",
        "apiVersion": version,
        "time": TIME,
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }
    return {**made, "subresource": sub} if sub else made


def scaled(manager: str, *, apply: bool = False) -> JSON:
    return entry(manager, REPLICAS, apply=apply, version="autoscaling/v1", sub="scale")


def owners(entries: list[JSON]) -> dict[str, JSON]:
    return {one["manager"]: one["fieldsV1"] for one in entries}


def test_the_scale_knows_those_who_own_the_replicas_and_nothing_else_of_theirs() -> None:
    parent = [entry("a", MORE), entry("b", {"f:spec": {"f:paused": {}}}), entry("c", MORE, version="other/v1")]
    (shown,) = to_scale(parent, path_of)
    assert (shown["manager"], shown["apiVersion"], shown["fieldsV1"]) == ("a", "autoscaling/v1", REPLICAS)


def test_owners_in_a_version_without_a_scale_keep_theirs_and_those_in_no_version_are_forgotten() -> None:
    parent = [entry("a", MORE, version="apps/without"), entry("b", MORE, version="other/v1")]
    assert owners(to_parent(parent, [scaled("s")], path_of, "apps/v1")) == {"a": MORE, "s": REPLICAS}


def test_who_scales_takes_the_replicas_and_leaves_the_rest() -> None:
    merged = to_parent([entry("a", MORE)], [scaled("s")], path_of, "apps/v1")
    assert owners(merged) == {"a": {"f:spec": {"f:paused": {}}}, "s": REPLICAS}
    taken = merged[0] if merged[0]["manager"] == "s" else merged[1]
    assert (taken["apiVersion"], taken["subresource"], "time" in taken) == ("apps/v1", "scale", False)


def test_an_owner_of_the_replicas_alone_is_forgotten() -> None:
    assert owners(to_parent([entry("a", REPLICAS)], [scaled("s")], path_of, "apps/v1")) == {"s": REPLICAS}


def test_an_owner_of_the_structure_around_the_replicas_keeps_that() -> None:
    parent = [entry("a", {"f:spec": {".": {}, "f:replicas": {}}})]
    merged = to_parent(parent, [scaled("s")], path_of, "apps/v1")
    assert owners(merged) == {"a": {"f:spec": {}}, "s": REPLICAS}, "what has nothing below it is a leaf"


def test_an_applier_that_still_owns_the_replicas_keeps_its_entry() -> None:
    parent = [entry("a", MORE, apply=True)]
    scale = [entry("a", REPLICAS, apply=True, version="autoscaling/v1"), scaled("s", apply=True)]
    assert owners(to_parent(parent, scale, path_of, "apps/v1")) == {"a": MORE, "s": REPLICAS}


def test_what_a_scale_owns_besides_the_replicas_is_of_no_account() -> None:
    only_status = entry("s", {"f:status": {"f:replicas": {}}}, version="autoscaling/v1", sub="scale")
    assert owners(to_parent([entry("a", MORE)], [only_status], path_of, "apps/v1")) == {
        "a": {"f:spec": {"f:paused": {}}}
    }


def test_entries_come_in_the_order_the_field_manager_writes_them() -> None:
    parent = [entry("z", {"f:spec": {"f:paused": {}}}), entry("b", {"f:data": {}}, apply=True)]
    merged = to_parent(parent, [scaled("a")], path_of, "apps/v1")
    assert [(one["operation"], one["manager"]) for one in merged] == [("Apply", "b"), ("Update", "a"), ("Update", "z")]
