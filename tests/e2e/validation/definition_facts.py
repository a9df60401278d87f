"""CustomResourceDefinitions, right and wrong in what is not about schemas: names, groups, versions, conversion."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

from tests.e2e.validation.corpus import Case
from tests.e2e.validation.definitions import definition, whole

JSON = dict[str, Any]

_PAIR: JSON = {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}
_NAMES = ["", "a", "A", "judged", "Judged", "a.b", "a_b", "1a", "-a", "a" * 64, "JudgedList", "é", "a b"]
_GROUPS = [
    "",
    "example",
    "Example.com",
    "a..b",
    "k8s.io",
    "x.k8s.io",
    "apiextensions.k8s.io",
    "a.kubernetes.io",
    "é.com",
]
_URLS = ["https://a.b/c", "http://a.b", "https://", "", "https://u@a/b", "https://a/?q=1", "https://a/#f", "::"]
_PATHS = ["/a", "a", "/", "", "//", "/a/", "/a//b", "/é", "/a b"]
_REVIEWS = [["v1"], ["v1", "v1beta1"], [], ["v2"], ["v1", "v1"], ["V1"], ["", "v1"], ["v1", "a b"]]
_SCALES = [
    {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
    {"specReplicasPath": ".spec", "statusReplicasPath": ".status"},
    {"specReplicasPath": ".spec.a[0]", "statusReplicasPath": ".status.a", "labelSelectorPath": ".spec.x"},
]
_COLUMNS = [
    {"name": "A", "type": "string", "jsonPath": ".a"},
    {"name": "A", "type": "date", "jsonPath": ".a[?(@.b==1)]", "priority": -1},
    {"name": "A b", "type": "integer", "jsonPath": ".a[x]", "format": "int32"},
    {"name": "A", "type": "number", "jsonPath": "", "description": "x"},
]

# Changes a definition's spec, or its version's, in place.
_Change = Callable[[random.Random, JSON, JSON], object]


def _conversion(dice: random.Random) -> JSON:
    def some(chance: float, **members: Any) -> JSON:
        return {name: value for name, value in members.items() if dice.random() < chance}

    service = some(
        0.7,
        name=dice.choice(["s", "", "S"]),
        namespace=dice.choice(["n", "", "N"]),
        path=dice.choice(_PATHS),
        port=dice.choice([0, 443, 70000, -1]),
    )
    config = some(0.5, url=dice.choice(_URLS), service=service, caBundle=dice.choice(["", "bm8gUEVN", "ICA="]))
    webhook = some(0.9, conversionReviewVersions=dice.choice(_REVIEWS), clientConfig=config)
    return some(0.85, strategy=dice.choice(["None", "Webhook", "Webhook", "Strange", ""]), webhook=webhook)


_CHANGES: list[_Change] = [
    lambda d, s, _: s["names"].update({d.choice(["plural", "singular", "kind", "listKind"]): d.choice(_NAMES)}),
    lambda d, s, _: s["names"].update(
        shortNames=d.choice([[], ["a"], ["a", "a"], ["A"], ["a", "b_"], ["judged"], [""]])
    ),
    lambda d, s, _: s["names"].update(categories=d.choice([[], ["all"], ["All"], ["a", "a"], ["a b"]])),
    lambda d, s, _: s["names"].pop(d.choice(["plural", "singular", "kind", "listKind"]), None),
    lambda d, s, _: s.update(group=d.choice(_GROUPS)),
    lambda d, s, _: s.update(scope=d.choice(["Namespaced", "Cluster", "", "cluster"])),
    lambda d, s, _: s.update(conversion=_conversion(d)),
    lambda d, s, _: s.update(conversion=_conversion(d)),
    lambda d, s, _: s.update(preserveUnknownFields=d.choice([True, False])),
    lambda d, s, _: s.update(versions=d.choice([s["versions"][:1], s["versions"] * 2, s["versions"][::-1], []])),
    lambda d, _, v: v.update(name=d.choice(["v1", "v2", "v1beta1", "", "V1", "a.b", "1"])),
    lambda d, _, v: v.update({d.choice(["served", "storage", "deprecated"]): d.choice([True, False])}),
    lambda d, _, v: v.update(deprecationWarning=d.choice(["", "a", None])),
    lambda d, _, v: v.update(subresources=d.choice([{}, {"status": {}}, *({"scale": one} for one in _SCALES)])),
    lambda d, _, v: v.update(additionalPrinterColumns=[d.choice(_COLUMNS) for _ in range(d.randint(1, 2))]),
    lambda d, _, v: v.update(selectableFields=[{"jsonPath": d.choice([".spec", ".spec.k", ".spec.v", ".status"])}]),
]


def creates(count: int) -> Iterator[Case]:
    """With one to three changes each."""
    dice = random.Random("definition facts")
    for number in range(count):
        schemas = [whole(dice.choice([{"type": "string"}, _PAIR])) for _ in range(dice.choice([1, 1, 2]))]
        made = deepcopy(definition(*schemas))
        for change in dice.choices(_CHANGES, k=dice.randint(1, 3)):
            versions = made["spec"]["versions"]
            change(dice, made["spec"], dice.choice(versions) if versions else {})
        if dice.random() < 0.2:
            approved = dice.choice(["", "https://a.b", "unapproved", "unapproved, x", "notaurl", "https://"])
            made["metadata"]["annotations"] = {"api-approved.kubernetes.io": approved}
        yield Case(f"{number}: {made['spec']}", "create", made)
