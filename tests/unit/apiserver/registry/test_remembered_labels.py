"""Checked labels are remembered, but not where they are so many or so long that clients could fill memory with them."""

from __future__ import annotations

import pytest

from kubecore.apiserver.registry.validation import metadata
from kubecore.apiserver.registry.validation.problems import Problems


def faults(labels: dict[str, str]) -> list[str]:
    problems = Problems()
    metadata.validate_labels(problems, labels, "metadata.labels")
    return [cause.message for cause in problems]


def kept() -> int:
    return metadata._remembered_faults.cache_info().currsize


def test_the_same_few_labels_are_checked_once() -> None:
    faults({"remembered": "labels"})
    hits = metadata._remembered_faults.cache_info().hits
    assert faults({"remembered": "labels"}) == []
    assert metadata._remembered_faults.cache_info().hits == hits + 1


@pytest.mark.parametrize("labels", [{"long": "v" * 100_000}, {"k" * 100_000: "v"}], ids=["value", "key"])
def test_long_labels_are_refused_and_not_kept(labels: dict[str, str]) -> None:
    before = kept()
    assert faults(labels)
    assert kept() == before


def test_many_labels_are_checked_and_not_kept() -> None:
    before = kept()
    assert len(faults({f"name-{number}": "-" for number in range(1000)})) == 1000
    assert kept() == before
