"""What becomes of CustomResourceDefinitions here and in Kubernetes, right and wrong ones, on create and on update.

They are given to Kubernetes' own registry (the Go program in `validation`) and to an API server without admission
plugins.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kubecore.api.errors import StatusError
from tests.e2e.validation import definition_facts, definitions, rules
from tests.e2e.validation.comparing import Answer, Kubecore, Oracle, compared, refused
from tests.e2e.validation.corpus import Case
from tests.unit.apiserver.registry.writing import Writer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# Answers that are known to differ: the words for metadata in a default that Go cannot decode.
KNOWN = 21


def differences(judge: Path, cases: list[Case], got: list[Answer]) -> list[list[str]]:
    """Of each case that is answered otherwise there."""
    wanted = Oracle(judge).ask(cases)
    found = [(case, lines) for case, lines in compared(cases, wanted, got) if lines]
    return [[f"{case.operation} {case.name}: {line}" for line in lines] for case, lines in found]


def told(found: list[list[str]]) -> str:
    return "\n".join([line for lines in found for line in lines][:40])


async def test_definitions_fare_as_in_kubernetes(judge: Path, kubecore: Kubecore) -> None:
    cases = list(definitions.creates())
    found = differences(judge, cases, [await kubecore.ask(case) for case in cases])
    assert len(found) <= KNOWN, told(found)


async def test_names_versions_and_conversion_fare_as_in_kubernetes(judge: Path, kubecore: Kubecore) -> None:
    cases = list(definition_facts.creates(1500))
    found = differences(judge, cases, [await kubecore.ask(case) for case in cases])
    assert not found, told(found)


async def test_rules_fare_as_in_kubernetes(judge: Path, kubecore: Kubecore) -> None:
    cases = list(rules.creates())
    found = differences(judge, cases, [await kubecore.ask(case) for case in cases])
    assert not found, told(found)


def test_what_a_stored_definition_has_already_is_tolerated_as_in_kubernetes(judge: Path) -> None:
    writer = Writer("customresourcedefinitions.apiextensions.k8s.io", namespaced=False)
    stored = writer.create(definitions.definition(definitions.whole({"type": "string"})))
    stored["metadata"]["resourceVersion"] = "1"
    cases = [*definitions.updates(stored), *rules.updates(stored)]

    def ask(case: Case) -> Answer:
        assert case.old is not None
        try:
            return Answer(writer.update(case.old, case.obj))
        except StatusError as error:
            return refused(error.to_status())

    found = differences(judge, cases, [ask(case) for case in cases])
    assert not found, told(found)
