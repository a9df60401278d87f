"""What becomes of objects here and in Kubernetes: defaults, refusals and their words, on create and on update.

Thousands of objects, each with one thing changed, are given to Kubernetes' own registry (the Go program in
`validation`, built from the module proxy) and to an API server without admission plugins.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kubecore.api import scheme
from tests.e2e.validation import corpus
from tests.e2e.validation.comparing import Answer, Kubecore, Oracle, compared
from tests.e2e.validation.corpus import Case
from tests.e2e.validation.known import KNOWN

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ZERO_VALUES = Path(__file__).parents[2] / "build_backend" / "zero_values.txt"
BASES = corpus.objects()
KINDS = list(dict.fromkeys((base["apiVersion"], base["kind"]) for base in BASES))
MUTATIONS = corpus.mutations(BASES)


async def answers(kubecore: Kubecore, api_version: str, kind: str) -> tuple[list[Case], list[Answer]]:
    """All that is asked about a kind, and what kubecore says."""
    asked: list[Case] = []
    got: list[Answer] = []

    async def ask(cases: list[Case]) -> None:
        asked.extend(cases)
        got.extend([await kubecore.ask(case) for case in cases])

    group, version = scheme.split_group_version(api_version)
    resource = scheme.every().for_kind(group, version, kind)
    assert resource is not None
    for number, base in enumerate(one for one in BASES if (one["apiVersion"], one["kind"]) == (api_version, kind)):
        await ask(list(corpus.creates(base, MUTATIONS, first=number == 0)))
        stored = await kubecore.create(base)
        await ask(list(corpus.updates(stored, MUTATIONS, first=number == 0)))
        for subresource in ("approval", "status", "finalize", "resize", "ephemeralcontainers"):
            if subresource in resource.subresources and corpus.is_asked(base, subresource):
                await ask(list(corpus.subresource_updates(stored, MUTATIONS, subresource)))
                if "status" in base and subresource in ("approval", "status"):
                    stored = await kubecore.update(stored, base["status"], subresource)
                    await ask(list(corpus.subresource_updates(stored, MUTATIONS, subresource)))
        if kind != "Namespace":
            await kubecore.delete(stored)
    return asked, got


@pytest.mark.parametrize(("api_version", "kind"), KINDS)
async def test_objects_fare_as_in_kubernetes(judge: Path, kubecore: Kubecore, api_version: str, kind: str) -> None:
    asked, got = await answers(kubecore, api_version, kind)
    wanted = Oracle(judge).ask(asked)
    different = [(case, found) for case, found in compared(asked, wanted, got) if found]
    told = [f"{case.operation} {case.name}: {line}" for case, found in different for line in found]
    assert len(different) <= KNOWN.get(f"{api_version}/{kind}", 0), "\n".join(told[:40])


@pytest.mark.parametrize("kind", ["Deployment", "ReplicaSet", "StatefulSet", "ReplicationController"])
async def test_scales_fare_as_in_kubernetes(judge: Path, kubecore: Kubecore, kind: str) -> None:
    asked: list[Case] = []
    got: list[Answer] = []
    for base in (one for one in BASES if one["kind"] == kind):
        stored = await kubecore.create(base)
        cases = list(corpus.scales(stored, await kubecore.scale_of(stored), MUTATIONS))
        asked += cases
        got += [await kubecore.ask(case) for case in cases]
        await kubecore.delete(stored)
    assert len(asked) > 50
    different = [(case, found) for case, found in compared(asked, Oracle(judge).ask(asked), got) if found]
    assert not different, "\n".join(f"{case.name}: {line}" for case, found in different for line in found)


def test_the_facts_of_zero_values_are_those_of_gos_types(judge: Path) -> None:
    printed = subprocess.run([judge, "zeros"], capture_output=True, check=True, text=True, timeout=60).stdout
    facts = [line for line in ZERO_VALUES.read_text().splitlines() if not line.startswith("#")]
    served = {line.partition(":")[0] for line in facts}
    assert facts == [line for line in printed.splitlines() if line.partition(":")[0] in served]
