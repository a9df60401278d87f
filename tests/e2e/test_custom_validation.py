"""What becomes of objects of custom kinds here and in Kubernetes: pruned, with defaults, held to schema and rules.

They are given to Kubernetes' own strategy (the Go program in `validation`) and to kubecore's, as its store does it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.validation import customs
from tests.e2e.validation.comparing import Answer, Oracle, compared
from tests.e2e.validation.corpus import Case

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# Answers that are known to differ: what a rule says of an old object that is not of its type.
KNOWN = 20


def test_objects_of_custom_kinds_fare_as_in_kubernetes(judge: Path) -> None:
    cases: list[Case] = []
    definitions: list[dict[str, Any]] = []
    got: list[Answer] = []
    for kind, definition in customs.kinds().items():
        asked = list(customs.cases(kind, definition))
        registry = customs.CustomRegistry(definition)
        cases += asked
        definitions += [definition] * len(asked)
        got += [registry.ask(case) for case in asked]
    wanted = Oracle(judge).ask(cases, definitions)
    different = [(case, found) for case, found in compared(cases, wanted, got) if found]
    told = [f"{case.operation} {case.name}: {line}" for case, found in different for line in found]
    assert len(different) <= KNOWN, "\n".join(told[:40])
