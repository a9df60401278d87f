"""Ingresses: what is refused of one that leads nowhere."""

from __future__ import annotations

from tests.unit.apiserver.registry.writing import Writer

INGRESSES = Writer("ingresses.networking.k8s.io")


def test_one_without_rules_and_backend_is_told_what_rules_it_has() -> None:
    detail = "either `defaultBackend` or `rules` must be specified"
    nothing = {"metadata": {"name": "a"}, "spec": {}}
    assert INGRESSES.problems(nothing) == [f"spec: Invalid value: null: {detail}"]
    assert INGRESSES.problems({"metadata": {"name": "a"}}) == [f"spec: Invalid value: null: {detail}"]
