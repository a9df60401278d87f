"""What `kubectl get` prints of objects here and in Kubernetes: each object of the corpus in `validation`, and all that
one change makes of it and its status, is given to Kubernetes' own printers and to ours.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from kubecore.api import scheme
from kubecore.apiserver.tables.printing import TABLES, table_for
from tests.e2e.validation import corpus
from tests.e2e.validation.comparing import Oracle

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

JSON = dict[str, Any]
BASES = corpus.objects()
MUTATIONS = corpus.mutations(BASES)
# Long ago, so that an age is told in days and is the same for both.
CREATED = "2020-01-01T00:00:00Z"
DELETED = {"deletionTimestamp": "2026-01-02T03:04:05Z", "deletionGracePeriodSeconds": 1}


def key_of(obj: JSON) -> str:
    group, version = scheme.split_group_version(obj["apiVersion"])
    resource = scheme.every().for_kind(group, version, obj["kind"])
    assert resource is not None
    return f"{resource.plural}.{group}" if group else resource.plural


def is_stored_so(obj: JSON) -> bool:
    """Rows are made of objects in the version that is stored."""
    return (obj["apiVersion"], obj["kind"]) != ("autoscaling/v1", "HorizontalPodAutoscaler")


PRINTED = [base for base in BASES if key_of(base) in TABLES and is_stored_so(base)]


def states(stored: JSON) -> Iterator[tuple[str, JSON]]:
    """What an object may become once it is there."""
    yield "as it is", stored
    yield "deleted", {**stored, "metadata": {**stored["metadata"], **DELETED}}
    wholes = list(MUTATIONS.of(stored, below="status"))
    yield from wholes
    for what, whole in wholes:
        if len(json.dumps(whole)) > 2 * len(json.dumps(stored)):
            yield from ((f"{what} {further}", state) for further, state in MUTATIONS.of(whole, below="status"))
            return


def objects(judge: Path, kind: str) -> list[tuple[str, JSON]]:
    found = []
    for base in (base for base in PRINTED if base["kind"] == kind):
        base = {**base, "metadata": {**base["metadata"], "creationTimestamp": CREATED}}
        cases = list(corpus.creates(base, MUTATIONS, first=False))
        accepted = [(case.name, answer.obj) for case, answer in zip(cases, Oracle(judge).ask(cases), strict=True)]
        for name, stored in accepted:
            if stored is not None:
                stored = {**stored, "metadata": {**stored["metadata"], "creationTimestamp": CREATED}}
                found.append((name, {**stored, **({"status": base["status"]} if "status" in base else {})}))
        found += [(f"{base['metadata']['name']} {what}", state) for what, state in states(found[0][1])]
    return found


@pytest.mark.parametrize("kind", sorted({base["kind"] for base in PRINTED}))
def test_rows_are_those_of_kubernetes_printers(judge: Path, kind: str) -> None:
    asked = objects(judge, kind)
    lines = b"\n".join(orjson.dumps(obj) for _, obj in asked)
    before = datetime.now(UTC)
    given = subprocess.run([judge, "tables"], input=lines, capture_output=True, check=True, timeout=600)
    after = datetime.now(UTC)
    different = []
    for (name, obj), line in zip(asked, given.stdout.splitlines(), strict=True):
        wanted = json.loads(line)
        if wanted.get("problem", "").startswith(("undecodable", "panic")):
            continue
        # Of a moment between the two it told the age; that may be the one at which a day ends.
        table, later = (table_for(key_of(obj), [obj], now=now) for now in (before, after))
        row = table["rows"][0]
        told = [(one["cells"], one.get("conditions") or []) for one in (row, later["rows"][0])]
        if (wanted["cells"], wanted.get("conditions") or []) not in told:
            different.append(f"{name}: there {json.dumps(wanted['cells'])}, here {json.dumps(row['cells'])}")
        assert [column["name"] for column in wanted["columns"]] == [
            column["name"] for column in table["columnDefinitions"]
        ]
    assert len(asked) > 2
    assert not different, f"{len(different)} of {len(asked)}\n" + "\n".join(different[:20])
