"""Server-side apply and update tracking beside Kubernetes' own field manager (built from the Go module proxy): the same
random sequences of writes must leave the same object, the same owners and the same conflicts.
"""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

from kubecore.api import schemas
from kubecore.api.schemas import PatchError
from tests.support import go_programs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

JSON = dict[str, Any]
SEQUENCES, STEPS = 400, 7
ALWAYS_THERE = {"f:metadata", "f:spec", "f:status", "f:strategy", "f:template", "f:resources", "f:containers"}
TIME = "2026-01-01T00:00:00Z"


# No map or list is ever left empty: the oracle keeps a null then, which Go's own types do not.


def some(dice: random.Random, names: str, *, always: str) -> list[str]:
    return [always, *dice.sample(names, dice.randint(0, len(names)))]


def config_map(dice: random.Random) -> JSON:
    data = {key: dice.choice("12") for key in some(dice, "abc", always="always")}
    labels = {key: dice.choice("12") for key in some(dice, "xy", always="keep")}
    finalizers = [f"e.x/{name}" for name in some(dice, "123", always="0")]
    dice.shuffle(finalizers)
    metadata = {"name": "o", "labels": labels, "finalizers": finalizers}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def service(dice: random.Random) -> JSON:
    ports = []
    for digit in some(dice, "12", always="0"):
        # The target is there always: Go writes a 0 for it otherwise, which the oracle knows nothing of.
        port: JSON = {"port": 80 + int(digit), "name": f"p{digit}", "targetPort": dice.choice([8080, "web"])}
        if dice.random() < 0.5:
            port["protocol"] = dice.choice(["TCP", "UDP"])
        if dice.random() < 0.5:
            port["appProtocol"] = dice.choice(["http", "e.x/y"])
        ports.append(port)
    dice.shuffle(ports)
    spec: JSON = {"ports": ports, "selector": {"app": dice.choice("ab")}}
    if dice.random() < 0.3:
        spec["type"] = dice.choice(["ClusterIP", "NodePort"])
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "o"}, "spec": spec}


def container(dice: random.Random, name: str) -> JSON:
    made: JSON = {"name": name, "image": dice.choice(["one", "two"]), "resources": {}}
    made["env"] = [{"name": key, "value": dice.choice("12")} for key in some(dice, "ABC", always="Z")]
    made["ports"] = [{"containerPort": 80 + int(digit), "protocol": "TCP"} for digit in some(dice, "12", always="0")]
    if dice.random() < 0.4:
        made["args"] = [dice.choice("ab")] * dice.randint(1, 2)
    return made


def deployment(dice: random.Random) -> JSON:
    names = some(dice, "xyz", always="main")
    dice.shuffle(names)
    pod: JSON = {"containers": [container(dice, name) for name in names]}
    if dice.random() < 0.4:
        pod["nodeSelector"] = {"zone": dice.choice("ab")}
    # Sent as Go sends it: structs that are no pointers are always there.
    spec: JSON = {
        "selector": {"matchLabels": {"app": "o"}},
        "strategy": {},
        "template": {"metadata": {"labels": {"app": "o"}}, "spec": pod},
    }
    if dice.random() < 0.5:
        spec["replicas"] = dice.randint(1, 3)
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "o"}, "spec": spec, "status": {}}


def sequence(dice: random.Random) -> JSON:
    make = dice.choice([config_map, service, deployment])
    steps = []
    for number in range(STEPS):
        applying = dice.random() < 0.7
        obj = make(dice)
        if applying and make is deployment:
            del obj["status"], obj["spec"]["strategy"]
            for one in obj["spec"]["template"]["spec"]["containers"]:
                del one["resources"]
        steps.append(
            {
                "operation": "Apply" if applying and number else "Update",
                "manager": dice.choice(["alice", "bob", "carol"]),
                "force": applying and dice.random() < 0.4,
                "object": obj,
            }
        )
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "steps": steps}


def ours(one: JSON) -> list[JSON]:
    engine, kind = schemas.default(), f"{one['apiVersion']}/{one['kind']}"
    live: bytes | None = None
    outcomes: list[JSON] = []
    for step in one["steps"]:
        given = orjson.dumps(step["object"])
        try:
            if step["operation"] == "Apply":
                applied = engine.apply(kind, live, given, manager=step["manager"], time=TIME, force=step["force"])
                obj = orjson.loads(applied.body)
                obj["metadata"]["managedFields"] = orjson.loads(applied.managed)
            else:
                body = engine.decode(kind, given).body
                obj = orjson.loads(engine.track(kind, live, body, manager=step["manager"], time=TIME))
        except PatchError as error:
            causes = [{"reason": "FieldManagerConflict", "message": m, "field": f} for m, f in error.conflicts]
            outcomes.append({"conflicts": causes})
            continue
        live = orjson.dumps(obj)
        managed = obj["metadata"].pop("managedFields", [])
        outcomes.append({"object": obj, "managed": managed})
    return outcomes


def comparable(outcome: JSON) -> JSON:
    """Without times, order of owners, and the empty structs and the 0 that Go always writes."""
    if "object" not in outcome:
        key = json.dumps
        return {"conflicts": sorted(outcome.get("conflicts", []), key=key), "error": outcome.get("error", "")}
    entries = [
        {name: _owned(value) if name == "fieldsV1" else value for name, value in entry.items() if name != "time"}
        for entry in outcome["managed"]
    ]
    entries = [entry for entry in entries if entry["fieldsV1"]]
    return {"object": without_empty(outcome["object"]), "managed": sorted(entries, key=json.dumps)}


def _owned(fields: JSON) -> JSON:
    """The oracle works without Go's structs, whose empty ones are there from the start and so are nobody's."""
    kept = {}
    for name, below in fields.items():
        inner = _owned(below)
        if name in ALWAYS_THERE:
            inner.pop(".", None)
        if inner or (not below and name not in ALWAYS_THERE):
            kept[name] = inner
    return dict(sorted(kept.items()))


def without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {name: without_empty(member) for name, member in value.items() if (name, member) != ("targetPort", 0)}
        return {name: member for name, member in kept.items() if member not in ({}, None, [])}
    return [without_empty(one) for one in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def oracle() -> Path:
    return go_programs.built("ownership")


@pytest.mark.parametrize("seed", range(3))
def test_random_writes_leave_what_they_leave_in_kubernetes(oracle: Path, seed: int) -> None:
    dice = random.Random(seed)
    sequences = [sequence(dice) for _ in range(SEQUENCES)]
    done = subprocess.run([oracle], input=orjson.dumps(sequences), capture_output=True, timeout=300, check=True)
    theirs = orjson.loads(done.stdout)
    for one, expected in zip(sequences, theirs, strict=True):
        for number, (got, wanted) in enumerate(zip(ours(one), expected, strict=True)):
            assert comparable(got) == comparable(wanted), json.dumps(one["steps"][: number + 1])
