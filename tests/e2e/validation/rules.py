"""Definitions with rules: what they compile to, what they cost, and where they may stand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.e2e.validation import definitions
from tests.e2e.validation.corpus import Case
from tests.e2e.validation.definitions import HERE, definition, put, whole

JSON = dict[str, Any]

_TEXT: JSON = {"type": "string"}
_SHORT: JSON = {"type": "string", "maxLength": 10}
_PAIR: JSON = {"type": "object", "properties": {"k": _SHORT, "v": {"type": "integer"}}}
_LIST: JSON = {"type": "array", "items": _TEXT}

# The spec that most rules are about.
_SPEC: JSON = {
    "type": "object",
    "required": ["a"],
    "properties": {
        "a": {"type": "integer"},
        "b": {"type": "boolean"},
        "n": {"type": "number"},
        "s": _TEXT,
        "short": _SHORT,
        "time": {"type": "string", "format": "date-time"},
        "day": {"type": "string", "format": "date"},
        "span": {"type": "string", "format": "duration"},
        "bytes": {"type": "string", "format": "byte"},
        "choice": {"type": "string", "enum": ["one", "three"]},
        "either": {"x-kubernetes-int-or-string": True},
        "list": _LIST,
        "few": {"type": "array", "maxItems": 5, "items": _SHORT},
        "pairs": {"type": "array", "items": _PAIR},
        "keyed": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["k"],
            "items": {**_PAIR, "required": ["k"]},
        },
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": _TEXT},
        "map": {"type": "object", "additionalProperties": _TEXT},
        "small": {"type": "object", "maxProperties": 3, "additionalProperties": _PAIR},
        "pair": _PAIR,
        "x-y.z/a": _TEXT,
        "namespace": _TEXT,
        "open": {"x-kubernetes-preserve-unknown-fields": True},
        "resource": {
            "type": "object",
            "x-kubernetes-embedded-resource": True,
            "x-kubernetes-preserve-unknown-fields": True,
        },
    },
}

RULES = [
    "true",
    "1",
    "self",
    "self.a > 1",
    "self.a",
    "self.a > 'x'",
    "self.a + self.s == 1",
    "self.zz",
    "self.a.b",
    "self.zz == self.yy",
    "zz",
    "self.a >",
    "self.a > > 1",
    "(self.a > 1",
    "self.a > 1)",
    "self..a",
    "'unended",
    "self.s == 'a' &&",
    "\tself.zz",
    "true ||\n  self.zz",
    "'äöü' == self.zz",
    "has(self.s)",
    "has(self.zz)",
    "has(self)",
    "!has(self.s) || self.s == 'x'",
    "self.x__dash__y__dot__z__slash__a == 'x'",
    "self.__namespace__ == 'x'",
    "self.namespace == 'x'",
    "self.open == 1",
    "has(self.resource.metadata.name)",
    "self.resource.kind == 'Pod'",
    "self.resource.spec.x == 1",
    "self.either == 1",
    "self.either.startsWith('a')",
    "type(self.either) == int",
    "self.s.matches('a+')",
    "self.s.matches('(')",
    "self.short.matches('^[a-z]+$')",
    "self.s.find('[')  == ''",
    "self.list.all(x, x.startsWith('a'))",
    "self.list.all(x, self.list.all(y, x == y))",
    "self.list.all(x, self.list.all(y, self.list.all(z, x + y == z)))",
    "self.few.all(x, self.few.exists(y, x != y))",
    "self.few.map(x, x + x).exists_one(x, x == 'aa')",
    "self.few.filter(x, x.size() > 3).size() < 3",
    "self.pairs.all(p, p.v > 3 && p.k.contains('x'))",
    "self.keyed.exists(p, p.k == 'a')",
    "self.set.all(x, x in ['a', 'b'])",
    "self.map.all(k, self.map[k] == k)",
    "self.map['a'].size() > 3",
    "self.small.all(k, self.small[k].k == k)",
    "self.small.exists(k, self.small[k].zz == 1)",
    "self.list[0] == 'a'",
    "self.list[self.a] == self.s",
    "self.list['a'] == 'a'",
    "'a' in self.list",
    "1 in self.list",
    "self.list + self.few == self.set",
    "size(self.list) == self.a",
    "self.time > timestamp('2020-01-01T00:00:00Z')",
    "self.time > timestamp('rubbish')",
    "self.span < duration('1h')",
    "self.span < duration('1 hour')",
    "self.day.getFullYear() > 2000",
    "self.bytes == b'abc'",
    "self.bytes.size() < 3",
    "self.choice.size() > 3",
    "self.n > 1.5",
    "self.n > 1",
    "double(self.a) > self.n",
    "self.a / 0 == 1",
    "self.a % 2 == 0",
    "1u + 2u == 3u",
    "self.s.lowerAscii() == self.s.upperAscii()",
    "self.s.split(',').size() > 2",
    "self.s.split(',').join(';') == self.s",
    "self.s.replace('a', 'bb') == self.s",
    "self.s.substring(1, 3) == 'aa'",
    "self.s.indexOf('a') > 3",
    "self.list.isSorted()",
    "self.list.sum() == 3",
    "self.list.max() == 'a'",
    "self.list.indexOf('a') == 1",
    "isURL(self.s) && url(self.s).getHost() == 'a'",
    "isIP(self.s) && ip(self.s).family() == 4",
    "cidr('10.0.0.0/8').containsIP(self.s)",
    "isQuantity(self.s) && quantity(self.s).isGreaterThan(quantity('1Gi'))",
    "quantity('rubbish').isInteger()",
    "format.dns1123Label().validate(self.s).hasValue()",
    "format.named('uuid').hasValue()",
    "semver(self.s).major() > 1",
    "self.few.sort() == self.few",
    "self.list.distinct().size() == self.list.size()",
    "lists.range(5).all(x, x < self.a)",
    "self.few.transformList(i, x, x + 'a').size() > 3",
    "self.small.transformMap(k, v, v.v).size() > 3",
    "self.?s.orValue('a') == 'a'",
    "self.?zz.hasValue()",
    "self.list[?0].hasValue()",
    "optional.of(self.a).value() == 3",
    "cel.bind(x, self.a, x > 3)",
    "cel.bind(x, self.list, x.all(y, x.all(z, y == z)))",
    "[1, 2, 3].all(x, x < self.a)",
    "[1, 'a'] == []",
    "{'a': 1}.a == self.a",
    "{'a': 1, 'a': 2}.size() == 1",
    "{1: 'a'}[self.a] == 'x'",
    "self == oldSelf",
    "oldSelf.a == self.a",
    "oldSelf.?a.hasValue()",
    "oldSelf.hasValue()",
    "has(oldSelf.s) ? self.s == oldSelf.s : true",
    "self.a > 1 ? 'a' : 'b'",
    "self.a > 1 ? 1 : 'b'",
    "dyn(self.a) == 'x'",
    "self.s.charAt(3) == 'a'",
    "self.s.format([1])",
    "'%s %d'.format([self.s, self.a]) == 'x'",
    "'%d'.format(['x']) == 'x'",
    "self.s.reverse() == self.s",
    "self.list.flatten() == self.list",
    "sets.contains(self.list, ['a'])",
    "Foo{a: 1}",
    "self.all(x, x)",
    "self.list.all(self.a, true)",
    "self.list.map(x, x, x, x)",
    "self.list.nothing(x)",
    "nothing(self.a)",
    "size(self.a)",
    "if",
    "self.for",
    "`self`",
    "self.`a`",
    "a\\b",
    "'\\q'",
    "0x1g",
    "99999999999999999999 > self.a",
    "-9223372036854775808 < self.a",
    "1e999 > self.n",
    "// only a comment",
    "true // with one",
    "null == self.s",
    "self.s != null",
    "!self.a",
    "-self.s == ''",
    "self.b && self.a",
    "self.b || 'x'",
    "self.b == true && !self.b",
    "int('x') == self.a",
    "int(self.s) > 1",
    "string(self.a) == 'x'",
    "bool(self.s)",
    "timestamp(self.s) < self.time",
    "self.time - self.time < duration('1s')",
    "self.time + duration('1s') > self.time",
    "type(self.a) == type(self.s)",
    "self.pair == {'k': 'a', 'v': 1}",
    "self.pair.k == self.s && self.pair == self.pair",
    "self.pairs == self.keyed",
    "self.map == {'a': 'b'}",
    "self.map.a == 'b'",
    "has(self.map.a)",
    "self.list.all(x, " * 5 + "true" + ")" * 5,
    "(" * 30 + "true" + ")" * 30,
    "(" * 300 + "true" + ")" * 300,
    "[" * 300 + "]" * 300,
    "!" * 301 + "true",
    "self.a" + " + 1" * 300 + " > 1",
    " && ".join(["self.b"] * 300),
    "'" + "a" * 100_001 + "' == self.s",
    "a" * 20_000,
]

_MESSAGES = [
    "'a'",
    "self.s",
    "self.a",
    "string(self.a)",
    "self.zz",
    "'a' +",
    "oldSelf.s",
    "self.list.join(',')",
    "self.list.map(x, self.list.map(y, x + y).join(',')).join(',')",
    "'%d'.format([self.a])",
    "''",
    "'x'.matches('(') ? 'a' : 'b'",
]

# Where a rule may stand: around a schema with rules.
_AROUND: dict[str, Any] = {
    "spec": HERE,
    "items": {"type": "array", "items": HERE},
    "few items": {"type": "array", "maxItems": 3, "items": HERE},
    "keyed items": {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["k"],
        "items": {"type": "object", "required": ["k"], "properties": {"k": _TEXT, "x": HERE}},
    },
    "set items": {"type": "array", "x-kubernetes-list-type": "set", "items": HERE},
    "values": {"type": "object", "additionalProperties": HERE},
    "few values": {"type": "object", "maxProperties": 7, "additionalProperties": HERE},
    "atomic": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {"x": HERE}},
    "items of items": {"type": "array", "maxItems": 3, "items": {"type": "array", "maxItems": 4, "items": HERE}},
    "values of items": {"type": "array", "items": {"type": "object", "additionalProperties": HERE}},
    "unescapable": {"type": "object", "properties": {"a b": HERE}},
    "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "properties": {"x": HERE}},
    "resource": {
        "type": "object",
        "x-kubernetes-embedded-resource": True,
        "properties": {"metadata": {"type": "object"}, "spec": HERE},
    },
    "below a rule": {
        "type": "object",
        "properties": {"x": HERE},
        "x-kubernetes-validations": [{"rule": "has(self.x)"}],
    },
    "allOf": {"type": "object", "properties": {"x": _TEXT}, "allOf": [{"properties": {"x": HERE}}]},
}

# Schemas that stand there, with a rule each that is right.
_PLACED: dict[str, tuple[JSON, list[str]]] = {
    "text": ({"type": "string"}, ["self == 'a'", "self != oldSelf", "self.contains(self)", "self.matches('a*b')"]),
    "short text": ({"type": "string", "maxLength": 5}, ["self == 'a'", "self.contains(self)"]),
    "number": ({"type": "integer"}, ["self > 1", "self >= oldSelf", "self > 'a'"]),
    "pair": (_PAIR, ["self.v > 1", "self.k.startsWith('a')", "self.v == oldSelf.v", "self.zz > 1"]),
    "list": (_LIST, ["self.all(x, x == 'a')", "self.all(x, self.exists(y, x == y))", "size(self) > size(oldSelf)"]),
    "map": ({"type": "object", "additionalProperties": {"type": "integer"}}, ["self.all(k, self[k] > 1)"]),
    "unknown": ({"x-kubernetes-preserve-unknown-fields": True}, ["self == 1"]),
    "list of unknown": (
        {"type": "array", "items": {"x-kubernetes-preserve-unknown-fields": True}},
        ["self.size() > 1"],
    ),
}


def creates() -> Iterator[Case]:
    for rule in RULES:
        for optional in (None,) if len(rule) > 500 else (None, True, False):
            given = {"rule": rule, "message": "m"} | ({} if optional is None else {"optionalOldSelf": optional})
            spec = {**_SPEC, "x-kubernetes-validations": [given]}
            yield Case(f"{rule[:80]!r} optional={optional}", "create", definition(whole(spec)))
    for message in _MESSAGES:
        given = {"rule": "self.a > 1", "messageExpression": message}
        spec = {**_SPEC, "x-kubernetes-validations": [given]}
        yield Case(f"message {message}", "create", definition(whole(spec)))
    for place, around in _AROUND.items():
        for name, (schema, rules) in _PLACED.items():
            for rule in rules:
                for more in ({}, {"messageExpression": "'a' + string(self)"}, {"optionalOldSelf": True}):
                    placed = put(around, {**schema, "x-kubernetes-validations": [{"rule": rule, **more}]})
                    yield Case(f"{rule} of {name} as {place} {more}", "create", definition(whole(placed)))
    yield from _roots()
    yield from _totals()
    yield from _defaults()


def _roots() -> Iterator[Case]:
    """Rules of whole objects."""
    rules = [
        "self.spec.a > 1",
        "self.metadata.name == 'a'",
        "self.metadata.generateName == 'a'",
        "self.metadata.labels == {}",
        "self.metadata.namespace == 'a'",
        "self.kind == 'A' && self.apiVersion == 'b'",
        "has(self.status)",
        "self.status.x == 1",
        "self.metadata.name == oldSelf.metadata.name",
    ]
    for rule in rules:
        for status in (False, True):
            schema = whole(_SPEC, **{"x-kubernetes-validations": [{"rule": rule}]})
            yield Case(f"root {rule} status={status}", "create", definition(schema, status=status))


def _totals() -> Iterator[Case]:
    """Rules that are fine one by one, and too much together."""
    bounded: JSON = {"type": "array", "maxItems": 1000, "items": {"type": "string", "maxLength": 100}}
    rule = "self.all(x, x.contains('abcdefgh'))"
    for count in (1, 30, 300, 600):
        rules = [{"rule": f"{rule} && {number} > 0"} for number in range(1, count + 1)]
        yield Case(f"{count} rules", "create", definition(whole({**bounded, "x-kubernetes-validations": rules})))
    for most in (10, 100, 500, 1000, 2000, 5000, 10_000, 100_000):
        spec = {
            **bounded,
            "maxItems": most,
            "x-kubernetes-validations": [{"rule": "self.all(x, self.exists(y, x == y))"}],
        }
        yield Case(f"square of {most}", "create", definition(whole(spec)))


def _defaults() -> Iterator[Case]:
    """Defaults that rules are about."""
    for value in ({"a": 1}, {"a": 3}, {"a": 3, "s": "x"}, {}):
        for rule in ("self.a > 1", "has(self.s)", "self.a > oldSelf.a", "self.zz", "self.list.all(x, x == 'a')"):
            for optional in (None, True):
                given: JSON = {"rule": rule} | ({} if optional is None else {"optionalOldSelf": True})
                spec = {**_SPEC, "required": [], "default": value, "x-kubernetes-validations": [given]}
                yield Case(f"default {value} by {rule} optional={optional}", "create", definition(whole(spec)))


def updates(stored: JSON) -> Iterator[Case]:
    """Of a definition that has rules already which are judged wrong now."""
    dear = {"rule": "self.list.all(x, self.list.all(y, x == y))"}
    bad = {"rule": "self.zz"}
    for name, before in (("dear", [dear]), ("bad", [bad]), ("fine", [{"rule": "self.a > 1"}])):
        for what, after in (("as it was", before), ("dear", [dear]), ("bad", [bad]), ("both", [dear, bad])):
            for more in ({}, {"description": "d"}):
                old, new = (
                    {**stored, "spec": {**stored["spec"], "versions": _versions(rules, extra)}}
                    for rules, extra in ((before, {}), (after, more))
                )
                yield Case(f"{name} becomes {what} {more}", "update", new, old)


def _versions(rules: list[JSON], extra: JSON) -> Any:
    schema = whole({**_SPEC, **extra, "x-kubernetes-validations": rules})
    return definitions.definition(schema)["spec"]["versions"]
