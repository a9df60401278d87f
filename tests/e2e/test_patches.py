"""Patches beside Kubernetes' own code (built from the Go module proxy): the same random patch must make the same
object, with the same warnings, or fail in the same way.
"""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from kubecore.api import schemas
from kubecore.api.schemas import PatchError
from tests.support import go_programs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

JSON = dict[str, Any]
PATCHES = 3000
MEDIA_TYPES = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}
CONTAINER: JSON = {
    "name": "c",
    "image": "i",
    "args": ["x", "y"],
    "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
    "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 80, "protocol": "UDP"}],
    "volumeMounts": [{"name": "v", "mountPath": "/v"}],
    "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
}
METADATA: JSON = {
    "name": "o",
    "labels": {"a": "1", "b": "2"},
    "finalizers": ["e.x/1", "e.x/2"],
    "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}],
}
POD_SPEC: JSON = {
    "containers": [CONTAINER, {"name": "d", "image": "j"}],
    "volumes": [
        {"name": "v", "emptyDir": {}},
        {"name": "w", "configMap": {"name": "m", "items": [{"key": "k", "path": "p"}]}},
    ],
    "tolerations": [{"key": "t", "operator": "Exists"}],
    "imagePullSecrets": [{"name": "s"}],
    "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["h"]}],
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
    "nodeSelector": {"n": "1"},
}
SPECS: dict[str, JSON] = {
    "v1/ConfigMap": {"data": {"a": "1", "b": "2"}},
    "v1/Pod": {
        "spec": POD_SPEC,
        "status": {"podIPs": [{"ip": "10.0.0.1"}], "conditions": [{"type": "Ready", "status": "True"}]},
    },
    "v1/Service": {
        "spec": {
            "ports": [{"name": "x", "port": 80}, {"name": "y", "port": 81}],
            "selector": {"a": "1"},
            "clusterIPs": ["10.0.0.1"],
        },
    },
    "v1/ServiceAccount": {"secrets": [{"name": "s"}], "imagePullSecrets": [{"name": "t"}]},
    "v1/Node": {
        "spec": {"podCIDRs": ["10.0.0.0/24"], "taints": [{"key": "k", "effect": "NoSchedule"}]},
        "status": {
            "addresses": [{"type": "Hostname", "address": "a"}, {"type": "InternalIP", "address": "b"}],
            "capacity": {"cpu": "1"},
        },
    },
    "apps/v1/Deployment": {
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"a": "1"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
            "template": {"metadata": {"labels": {"a": "1"}}, "spec": POD_SPEC},
        },
    },
    "rbac.authorization.k8s.io/v1/Role": {"rules": [{"verbs": ["get"], "resources": ["pods"], "apiGroups": [""]}]},
}
MERGE_KEYS = ("name", "type", "uid", "containerPort", "port", "mountPath", "ip", "topologyKey", "key")


def objects(dice: random.Random) -> Iterator[tuple[str, JSON]]:
    """Objects with some of their members, so that a patch meets places that are empty."""
    while True:
        kind = dice.choice(list(SPECS))
        api_version, _, name = kind.rpartition("/")
        thinned = {"metadata": {"name": "o"}, **some_of(dice, {"metadata": METADATA, **SPECS[kind]})}
        yield kind, {"apiVersion": api_version, "kind": name, **thinned}


def some_of(dice: random.Random, value: Any) -> Any:
    if isinstance(value, dict):
        kept = {name: some_of(dice, below) for name, below in value.items() if dice.random() < 0.85}
        # An object without them is none that could have been stored.
        return {**kept, **{name: value[name] for name in MERGE_KEYS if name in value}}
    if isinstance(value, list):
        return [some_of(dice, below) for below in value if dice.random() < 0.85]
    return value


def strategic(dice: random.Random, value: JSON, *, strange: bool) -> JSON:
    """A patch of an object like that, with directives; `strange` ones are such that no client would send."""
    patch: JSON = {}
    if strange and dice.random() < 0.08:
        patch["$patch"] = dice.choice(["replace", "delete", "merge", "frob"])
    for name, below in value.items():
        if dice.random() < 0.4:
            patch.update(member(dice, name, below, strange=strange))
    if dice.random() < 0.1:
        patch["$retainKeys"] = [name for name in patch if not name.startswith("$")]
        if strange and dice.random() < 0.3:
            patch["$retainKeys"] = dice.choice([["other"], [*patch["$retainKeys"], "other"], "other"])
    return patch


def member(dice: random.Random, name: str, value: Any, *, strange: bool) -> JSON:
    chance = dice.random()
    if chance < 0.1:
        return {name: None}
    if strange and chance < 0.15:
        return {name: dice.choice([{}, [], "x", 1, True, ["x"], [{}], {"x": 1}, [None], [[]]])}
    if isinstance(value, dict):
        return {name: strategic(dice, value, strange=strange)}
    if not isinstance(value, list):
        return {name: dice.choice([value, "z" if isinstance(value, str) else 7])}
    if value and isinstance(value[0], dict):
        return keyed(dice, name, value, strange=strange)
    kept = dice.sample(value, dice.randint(0, len(value)))
    patch: JSON = {}
    if dice.random() < 0.6:
        patch[name] = [*kept, *dice.sample(["new", "newer"], dice.randint(0, 2))]
    if dice.random() < 0.4:
        # What is added and deleted at once is there or not as Go's maps have it.
        patch[f"$deleteFromPrimitiveList/{name}"] = dice.sample(
            [*(one for one in value if one not in kept), "absent"], 1
        )
    if dice.random() < 0.4:
        patch[f"$setElementOrder/{name}"] = [*patch.get(name, kept), *dice.sample(value, 1)]
    return patch


def keyed(dice: random.Random, name: str, value: list[Any], *, strange: bool) -> JSON:
    elements: list[Any] = []
    for one in dice.sample(value, dice.randint(0, len(value))):
        keys = {key: one[key] for key in MERGE_KEYS if key in one}
        chance = dice.random()
        if chance < 0.15:
            elements.append({**keys, "$patch": "delete"})
        elif strange and chance < 0.2:
            odd = [{"$patch": "replace"}, {**keys, "$patch": "frob"}, {**keys, "$patch": "merge"}, {"image": "none"}]
            elements.append(dice.choice(odd))
        else:
            elements.append({**strategic(dice, one, strange=strange), **keys})
    if dice.random() < 0.4:
        fresh = strategic(dice, value[0], strange=strange)
        elements.append({**fresh, **{key: changed(value[0][key]) for key in MERGE_KEYS if key in value[0]}})
    if dice.random() < 0.1:
        elements.insert(0, {"$patch": "replace"})
    patch: JSON = {name: elements}
    if dice.random() < 0.4:
        named = [one for one in [*elements, *value] if isinstance(one, dict) and "$patch" not in one]
        patch[f"$setElementOrder/{name}"] = [{key: one[key] for key in MERGE_KEYS if key in one} for one in named]
        if strange:
            dice.shuffle(patch[f"$setElementOrder/{name}"])
        if dice.random() < 0.2:
            del patch[name]
    return patch


def changed(key: Any) -> Any:
    return key + 1 if isinstance(key, int) else f"{key}-new"


def merging(dice: random.Random, value: JSON) -> JSON:
    """A JSON merge patch of an object like that."""
    patch: JSON = {}
    for name, below in value.items():
        chance = dice.random()
        if chance < 0.1:
            patch[name] = None
        elif chance < 0.5:
            patch[name] = merging(dice, below) if isinstance(below, dict) else some_of(dice, below)
        elif chance < 0.55:
            patch[f"{name}x"] = dice.choice([below, None, {"a": None, "b": [None, {"c": None}]}])
        elif chance < 0.58:
            patch[name] = dice.choice([{}, [], "x", 1, True, [None], {"a": None}])
    return patch


def places(value: Any, path: str = "") -> Iterator[str]:
    yield path
    members: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, below in members:
        yield from places(below, f"{path}/{str(name).replace('~', '~0').replace('/', '~1')}")


def operations(dice: random.Random, obj: JSON) -> list[JSON]:
    """A JSON patch of that object."""
    known = [place for place in places(obj) if not place.startswith(("/apiVersion", "/kind"))][1:]
    made = []
    for _ in range(dice.randint(1, 4)):
        path = dice.choice(known) + dice.choice(["", "", "", "", "x", "/0", "/-", "/1", "/-1", "/9", "/name"])
        op = dice.choice(["add", "add", "remove", "replace", "replace", "copy", "move", "test"])
        one: JSON = {"op": op, "path": path}
        if op in ("copy", "move"):
            one["from"] = dice.choice(known)
        elif op != "remove":
            one["value"] = dice.choice(["x", 1, None, {}, [], {"a": "b"}, ["x"], "1", True])
        made.append(one)
    return made


def told(ours: Any) -> JSON:
    warnings = sorted(ours.warnings)
    return {"object": orjson.loads(ours.body), "warnings": warnings}


def ask(kind: str, obj: JSON, patch: Any, form: str) -> JSON:
    try:
        current = schemas.default().decode(kind, orjson.dumps(obj)).body
        return told(schemas.default().patch_decode(kind, current, orjson.dumps(patch), MEDIA_TYPES[form], "Warn"))
    except PatchError as refused:
        return {"code": refused.code, "message": refused.message}


def without_nulls(value: Any) -> Any:
    """Go writes some members that are not there as null."""
    if isinstance(value, dict):
        return {name: without_nulls(below) for name, below in value.items() if below is not None}
    if isinstance(value, list):
        return [without_nulls(below) for below in value]
    return value


def alike(theirs: JSON, ours: JSON, *, strange: bool) -> bool:
    """What is wrong with a strange patch may be several things, of which Go's maps tell any."""
    if theirs.get("message", "").startswith("panic"):
        # Nothing to learn from.
        return True
    if "code" in theirs or "code" in ours:
        return "object" not in {**theirs, **ours} and (strange or theirs["code"] == ours["code"])
    wanted, found = without_nulls(theirs["object"]), without_nulls(ours["object"])
    return bool(wanted == found) and sorted(theirs.get("warnings") or ()) == ours["warnings"]


@pytest.fixture(scope="module")
def oracle() -> Path:
    return go_programs.built("patches")


@pytest.mark.parametrize("form", [*MEDIA_TYPES, "strange"])
def test_patches_do_what_they_do_in_kubernetes(oracle: Path, form: str) -> None:
    dice = random.Random(f"patches {form}")
    asked = []
    for (kind, obj), _ in zip(objects(dice), range(PATCHES), strict=False):
        whole = {"metadata": METADATA, **SPECS[kind]}
        if form == "json":
            patch: Any = operations(dice, obj)
        elif form == "merge":
            patch = merging(dice, whole)
        else:
            patch = strategic(dice, whole, strange=form == "strange")
        asked.append((kind, obj, patch))
    strange, form = form == "strange", "strategic" if form == "strange" else form
    current = [orjson.loads(schemas.default().decode(kind, orjson.dumps(obj)).body) for kind, obj, _ in asked]
    lines = [{"type": form, "object": obj, "patch": patch} for obj, (_, _, patch) in zip(current, asked, strict=True)]
    given = subprocess.run(
        [oracle], input=b"\n".join(map(orjson.dumps, lines)), capture_output=True, check=True, timeout=300
    )
    theirs = [json.loads(line) for line in given.stdout.splitlines()]
    different = []
    for (kind, obj, patch), wanted in zip(asked, theirs, strict=True):
        found = ask(kind, obj, patch, form)
        if not alike(wanted, found, strange=strange):
            different.append(json.dumps({"kind": kind, "object": obj, "patch": patch, "there": wanted, "here": found}))
    assert not different, f"{len(different)} of {len(asked)}\n" + "\n".join(sorted(different, key=len)[:12])
