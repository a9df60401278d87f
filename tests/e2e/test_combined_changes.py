"""Objects with several things changed at once, here and in Kubernetes: rules about more than one field, and what is
still looked at where something else is wrong.

As in test_validation.py, for as many combinations as are drawn, the same each time.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_validation import BASES, KINDS, MUTATIONS
from tests.e2e.validation.comparing import Answer, Kubecore, Oracle, compared
from tests.e2e.validation.corpus import Case
from tests.e2e.validation.mutations import Step, changed_at_once

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

JSON = dict[str, Any]
Change = tuple[list[Step], Any]
TRIED, CREATED, UPDATED, UPDATES = 150, 60, 6, 10


class Draw:
    """Of the changes of an object, some that are right by themselves more often than others."""

    def __init__(self, dice: random.Random, changes: Sequence[Change], right: Sequence[Change]) -> None:
        self._dice, self._changes, self._right = dice, changes, right

    def some(self) -> list[Change]:
        return [self._one() for _ in range(self._dice.choice((2, 2, 3, 4)))]

    def _one(self) -> Change:
        return self._dice.choice(self._right if self._right and self._dice.random() < 0.7 else self._changes)


def is_told_apart(change: Change) -> bool:
    """Not what Go's types tell from nothing, and what is stored does not; nor the number beyond which the registry of
    the comparison counts on."""
    path, value = change
    return value not in ([], {}) and not isinstance(path[-1], int) and (path[-1], value) != ("nodePort", 2**31 - 1)


def gone_when_deleted(obj: JSON) -> JSON:
    metadata = {name: value for name, value in obj["metadata"].items() if name != "finalizers"}
    return {**obj, "metadata": metadata}


async def drawn(kubecore: Kubecore, base: JSON) -> tuple[list[Case], list[Answer]]:
    """What is asked of one object, and what kubecore says."""
    dice = random.Random(f"{base['kind']}/{base['metadata']['name']}")
    changes = [change for change in MUTATIONS.changes(base) if is_told_apart(change)]
    if not changes:
        return [], []
    asked: list[Case] = []
    got: list[Answer] = []

    async def ask(case: Case) -> Answer:
        answer = await kubecore.ask(case)
        asked.append(case)
        got.append(answer)
        return answer

    tried = dice.sample(changes, min(len(changes), TRIED))
    right = [one for one in tried if (await kubecore.ask(Case("", "create", changed_at_once(base, [one])[1]))).obj]
    draw = Draw(dice, changes, right)
    accepted: list[JSON] = [base]
    for _ in range(CREATED):
        told, obj = changed_at_once(base, draw.some())
        if (await ask(Case(f"{base['metadata']['name']} {told}", "create", obj))).obj is not None:
            accepted.append(obj)
    if base["kind"] == "Namespace":
        return asked, got
    for obj in accepted[:UPDATED]:
        try:
            stored = await kubecore.create(gone_when_deleted(obj))
        except AssertionError:
            # As in Kubernetes, a dry run takes node ports beyond their range.
            continue
        for _ in range(UPDATES):
            # What was stored with changes of its own, or another object under its name.
            start = stored if dice.random() < 0.7 else {**base, "metadata": stored["metadata"]}
            told, changed = changed_at_once(start, draw.some())
            await ask(Case(f"{base['metadata']['name']} {told}", "update", changed, stored))
        await kubecore.delete(stored)
    return asked, got


@pytest.mark.parametrize(("api_version", "kind"), KINDS)
async def test_objects_with_several_changes_fare_as_in_kubernetes(
    judge: Path, kubecore: Kubecore, api_version: str, kind: str
) -> None:
    asked: list[Case] = []
    got: list[Answer] = []
    for base in (one for one in BASES if (one["apiVersion"], one["kind"]) == (api_version, kind)):
        cases, answers = await drawn(kubecore, base)
        asked += cases
        got += answers
    different = [(case, found) for case, found in compared(asked, Oracle(judge).ask(asked), got) if found]
    told = [f"{case.operation} {case.name}: {line}" for case, found in different for line in found]
    assert not different, "\n".join(told[:40])
