"""Which default objects of flow control are brought back, and which an administrator has made his own."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.apiserver.flow_control.defaults import AUTO_UPDATE
from kubecore.apiserver.flow_control.ensuring import revised

JSON = dict[str, Any]
SPEC = {"matchingPrecedence": 500, "rules": [{"subjects": [], "resourceRules": [{"verbs": ["*"]}]}]}
OTHER = {**SPEC, "matchingPrecedence": 7}


def stored(spec: JSON, annotation: str | None = "true", generation: int = 1) -> JSON:
    metadata: JSON = {"name": "x", "resourceVersion": "5", "generation": generation}
    if annotation is not None:
        metadata["annotations"] = {AUTO_UPDATE: annotation}
    return {"metadata": metadata, "spec": spec}


def test_what_is_as_it_should_be_is_left_alone() -> None:
    assert revised(stored(SPEC), SPEC, mandatory=False) is None
    spelled_out = {**SPEC, "rules": [{"resourceRules": [{"verbs": ["*"], "clusterScope": False}]}]}
    assert revised(stored(spelled_out), SPEC, mandatory=True) is None


def test_a_suggested_object_that_updates_itself_is_brought_back() -> None:
    changed = revised(stored(OTHER), SPEC, mandatory=False)
    assert changed == stored(SPEC)


def test_one_that_an_administrator_keeps_is_not() -> None:
    assert revised(stored(OTHER, "false"), SPEC, mandatory=False) is None


@pytest.mark.parametrize(("generation", "kept", "annotation"), [(1, SPEC, "true"), (2, OTHER, "false")])
def test_without_the_annotation_it_counts_whether_the_object_was_ever_changed(
    generation: int, kept: JSON, annotation: str
) -> None:
    changed = revised(stored(OTHER, None, generation), SPEC, mandatory=False)
    assert changed == stored(kept, annotation, generation)


def test_a_mandatory_object_is_always_brought_back() -> None:
    assert revised(stored(OTHER, "false", 3), SPEC, mandatory=True) == stored(SPEC, "true", 3)
