"""What claims are filled from, and what may change of them."""

from __future__ import annotations

from typing import Any

from tests.unit.apiserver.registry.writing import Writer, changed

CLAIMS = Writer("persistentvolumeclaims")


def claim(**spec: Any) -> dict[str, Any]:
    resources = {"requests": {"storage": "1Gi"}}
    return {"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": resources, **spec}}


def test_both_data_sources_say_the_same() -> None:
    source = {"kind": "PersistentVolumeClaim", "name": "other"}
    filled = {"apiGroup": None, **source}
    assert CLAIMS.create(claim(dataSource=source))["spec"]["dataSourceRef"] == filled
    assert CLAIMS.create(claim(dataSourceRef=source))["spec"]["dataSource"] == filled


def test_a_data_source_that_was_never_allowed_is_dropped() -> None:
    assert "dataSource" not in CLAIMS.create(claim(dataSource={"kind": "ConfigMap", "name": "x"}))["spec"]


def test_only_a_bound_claim_grows() -> None:
    stored = CLAIMS.create(claim())
    bigger = changed(stored, "spec.resources.requests.storage", "2Gi")
    assert CLAIMS.update_problems(stored, bigger)[0].startswith("spec: Forbidden: spec is immutable after creation")
    bound = {"phase": "Bound", "capacity": {"storage": "1Gi"}}
    assert CLAIMS.update_problems({**stored, "status": bound}, {**bigger, "status": bound}) == []


def test_a_bound_claim_does_not_shrink_below_what_it_has() -> None:
    stored = {**CLAIMS.create(claim()), "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}
    assert CLAIMS.update_problems(stored, changed(stored, "spec.resources.requests.storage", "1Mi")) == [
        "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"
    ]
