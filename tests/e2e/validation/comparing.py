"""Asks Kubernetes' registry and kubecore the same, and tells how the answers differ."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from kubecore.api import scheme
from kubecore.apiserver.local import LocalTransport
from tests.e2e.validation.corpus import Case

JSON = dict[str, Any]

# What each registry makes up for itself.
_OWN = ("uid", "creationTimestamp", "resourceVersion", "managedFields", "selfLink")
_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ADDRESS = re.compile(r"10\.96\.\d+\.\d+")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_NODE_PORTS = range(30000, 32768)
_ALLOCATED = ("clusterIP", "clusterIPs", "nodePort", "healthCheckNodePort")
_OWN_WARNING = "this version of kubecore has no "


@dataclass(frozen=True, slots=True)
class Answer:
    """A stored object, or causes as (reason, field, message) of a refusal, or why the body was not understood.

    `warnings` go with an object; None where they are not compared. `seconds` are those in which it was asked and
    answered, as objects tell times without fractions, where that is known."""

    obj: JSON | None = None
    causes: tuple[tuple[str, str, str], ...] = ()
    refusal: str = ""
    warnings: frozenset[str] | None = None
    seconds: frozenset[str] = frozenset()


class Oracle:
    """The Go program that runs Kubernetes' own registry."""

    def __init__(self, program: Path) -> None:
        self._program = program

    def ask(self, cases: Sequence[Case], definitions: Sequence[JSON] = ()) -> list[Answer]:
        """`definitions` are those of the cases' kinds, where these are custom ones. Raises CalledProcessError."""
        asked = b"".join(
            orjson.dumps(
                {
                    "operation": case.operation,
                    "object": case.obj,
                    **({"old": case.old} if case.old else {}),
                    **({"definition": definition} if definition else {}),
                }
            )
            + b"\n"
            for case, definition in itertools.zip_longest(cases, definitions)
        )
        done = subprocess.run([self._program], input=asked, capture_output=True, check=True, timeout=600)
        return [self._answer(orjson.loads(line)) for line in done.stdout.splitlines()]

    @staticmethod
    def _answer(told: JSON) -> Answer:
        if "object" in told:
            return Answer(told["object"], warnings=frozenset(told.get("warnings") or ()))
        if "status" in told:
            return refused(told["status"])
        return Answer(refusal=f"undecodable: {told['undecodable']}")


class Kubecore:
    """The same questions to an API server of this process; nothing is kept of them."""

    def __init__(self, transport: LocalTransport) -> None:
        self._transport = transport

    async def ask(self, case: Case) -> Answer:
        method = "POST" if case.operation == "create" else "PUT"
        path = _path(case.obj, case.old, case.operation)
        asked = int(time.time())
        answer = await self._transport.answer(method, path, query={"dryRun": "All"}, body=orjson.dumps(case.obj))
        seconds = frozenset(
            time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(one)) for one in range(asked, int(time.time()) + 1)
        )
        obj = orjson.loads(answer.body)
        if answer.status >= 300:
            return refused(obj)
        # A strategy knows nothing of it: whoever serves the version tells.
        deprecated = f"{case.obj['apiVersion']} {case.obj['kind']} is deprecated in "
        warnings = frozenset(one for one in _warned(answer.headers) if not one.startswith(deprecated))
        return Answer(obj, warnings=warnings, seconds=seconds)

    async def create(self, obj: JSON) -> JSON:
        """Stores a base object. Raises AssertionError with what is wrong with it."""
        status, stored = await self._send("POST", obj, None, "create")
        assert status == 201, stored
        return stored

    async def update(self, stored: JSON, wanted: JSON, subresource: str) -> JSON:
        """Stores a status. Raises AssertionError with what is wrong with it."""
        status, changed = await self._send("PUT", {**stored, "status": wanted}, stored, subresource)
        assert status == 200, changed
        return changed

    async def scale_of(self, stored: JSON) -> JSON:
        status, scale = await self._send("GET", stored, stored, "scale")
        assert status == 200, scale
        return scale

    async def create_if_absent(self, obj: JSON) -> None:
        status, answer = await self._send("POST", obj, None, "create")
        assert status in (201, 409), answer

    async def listed(self, path: str) -> list[JSON]:
        """All objects of a resource."""
        status, answer = await self._transport.request("GET", path)
        assert status == 200, answer
        return list(orjson.loads(answer)["items"])

    async def delete(self, obj: JSON) -> None:
        """At once, whatever stands for waiting."""
        await self._send("DELETE", obj, obj, "delete", propagationPolicy="Background", gracePeriodSeconds="0")

    async def _send(self, method: str, obj: JSON, old: JSON | None, operation: str, **query: str) -> tuple[int, JSON]:
        path = _path(obj, old, operation)
        body = None if method in ("DELETE", "GET") else orjson.dumps(obj)
        status, answer = await self._transport.request(
            method, path, query=query, body=body, content_type="application/json"
        )
        return status, orjson.loads(answer)


def _warned(headers: Iterable[tuple[str, str]]) -> frozenset[str]:
    """Texts of Warning headers, without what only kubecore says."""
    quoted = (value.partition('"')[2][:-1] for name, value in headers if name == "Warning")
    texts = (re.sub(r"\\(.)", r"\1", text) for text in quoted)
    return frozenset(text for text in texts if not text.startswith(_OWN_WARNING))


def _path(obj: JSON, old: JSON | None, operation: str) -> str:
    # A scale is one of another kind than that of the path.
    kind = old if old is not None and operation == "scale" else obj
    group, version = scheme.split_group_version(kind["apiVersion"])
    resource = scheme.every().for_kind(group, version, kind["kind"])
    assert resource is not None, kind["kind"]
    parts = [f"/apis/{group}/{version}" if group else f"/api/{version}"]
    if resource.namespaced:
        parts += ["namespaces", kind["metadata"]["namespace"]]
    parts.append(resource.plural)
    if old is not None:
        parts.append(quote(old["metadata"]["name"], safe=""))
    if operation not in ("create", "update", "delete"):
        parts.append(operation)
    return "/".join(parts)


def refused(status: JSON) -> Answer:
    causes = (status.get("details") or {}).get("causes") or ()
    if status.get("reason") != "Invalid":
        return Answer(refusal=f"{status.get('reason')}: {status.get('message')}")
    listed = tuple((one.get("reason", ""), one.get("field", ""), _plain(one.get("message", ""))) for one in causes)
    return Answer(causes=listed or (("", "", str(status.get("message"))),))


# A Go struct as a bad value: its fields have Go's names, or it is printed as Go source. Nothing and an empty list are
# told apart by Go, and not by what is stored.
_GO_STRUCT = re.compile(
    r"^(Invalid value|Unsupported value|Duplicate value|Not found): "
    r'(\[?\{.*?[}\]]|&?\[?\]?[a-z0-9]+\.[A-Z].*?[}\]]|null|\[\])(?=$|: [^"])',
    re.DOTALL,
)
_GO_DIFF = re.compile(r"(previously negative\)|after creation|bound claims|bound claim)\n.*", re.DOTALL)


# The time of day, so that nobody relies on the name.
_SELF_TYPE = re.compile(r"\bselfType\d+")


def _plain(message: str) -> str:
    """Without what only shows how Go's types look (whole structs, differences of them), and what is never the same."""
    plain = _GO_DIFF.sub(r"\1", _GO_STRUCT.sub(r"\1: (a struct)", message))
    return _SELF_TYPE.sub("selfType", plain)


# --- how answers differ


def differences(case: Case, theirs: Answer, ours: Answer) -> list[str]:
    """Each in one line: what is missing here, what is too much, and which field differs; [] when all is alike."""
    if theirs.refusal or ours.refusal:
        return _refusals(theirs, ours)
    prefix = case.obj["metadata"].get("generateName")
    if prefix and not case.obj["metadata"].get("name"):
        theirs, ours = _without_generated(theirs, prefix), _without_generated(ours, prefix)
    if theirs.causes or ours.causes:
        # Upstream says some things twice on update, by the checks of all kinds and by those of the kind.
        missing = [cause for cause in dict.fromkeys(theirs.causes) if cause not in ours.causes]
        extra = [cause for cause in dict.fromkeys(ours.causes) if cause not in theirs.causes]
        return [*(f"missing {_line(one)}" for one in missing), *(f"extra {_line(one)}" for one in extra)]
    wanted, found = _comparable(case, theirs.obj), _comparable(case, ours.obj)
    told = []
    if theirs.warnings is not None and ours.warnings is not None:
        told = [
            *(f"missing warning {text}" for text in sorted(theirs.warnings - ours.warnings)),
            *(f"extra warning {text}" for text in sorted(ours.warnings - theirs.warnings)),
        ]
    return [*told, *_unlike(wanted, found, "", ours.seconds)]


def _without_generated(answer: Answer, prefix: str) -> Answer:
    generated = re.compile(re.escape(prefix) + "[a-z0-9]{5}")
    causes = tuple((reason, field, generated.sub("(generated)", text)) for reason, field, text in answer.causes)
    return replace(answer, causes=causes)


def _refusals(theirs: Answer, ours: Answer) -> list[str]:
    if theirs.refusal.startswith("undecodable: panic:"):
        # Nothing to learn from.
        return []
    if theirs.refusal.startswith("undecodable:"):
        return [] if ours.refusal.startswith("BadRequest:") else [f"accepted, not decoded there: {theirs.refusal}"]
    if theirs.refusal == ours.refusal:
        return []
    return [f"refused there with {theirs.refusal or theirs.causes}, here with {ours.refusal or ours.causes}"]


def _without_uids(obj: JSON, case: Case) -> JSON:
    """A copy without the uids that each registry made."""
    asked = json.dumps([case.obj, case.old])
    text = _UID.sub(lambda found: found[0] if found[0] in asked else "(uid)", json.dumps(obj))
    known: JSON = json.loads(text)
    return known


def _line(cause: tuple[str, str, str]) -> str:
    reason, field, message = cause
    return f"{field}: {message}" if field else f"{reason} {message}"


def _comparable(case: Case, obj: JSON | None) -> Any:
    obj = _without_uids(obj or {}, case)
    metadata = obj.get("metadata") or {}
    for name in _OWN:
        metadata.pop(name, None)
    if not case.obj["metadata"].get("name") and case.old is None:
        metadata.pop("name", None)
    _hide_now(obj, json.dumps([_asked(case.obj), _asked(case.old or {})]))
    if case.obj["kind"] == "Service":
        _hide_allocated(obj.get("spec") or {}, json.dumps(case.obj))
    return obj


def _asked(obj: JSON) -> JSON:
    """What a client said: not when its object was stored, which may be the very second of the answer."""
    metadata = {name: value for name, value in (obj.get("metadata") or {}).items() if name not in _OWN}
    return {**obj, "metadata": metadata}


def _hide_now(value: Any, asked: str) -> None:
    """Times that no request named are those of the answer."""
    for key, below in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if isinstance(below, str):
            # The moment of the answer may be in the same second as a moment that was asked.
            if key == "lastPhaseTransitionTime" or (_TIME.fullmatch(below) and below not in asked):
                value[key] = "now"
        else:
            _hide_now(below, asked)


def _hide_allocated(value: Any, asked: str) -> None:
    if isinstance(value, dict):
        for name, below in value.items():
            if name in _ALLOCATED and below and json.dumps(below) not in asked:
                addresses = _ADDRESS.findall(json.dumps(below))
                unasked = addresses and not any(one in asked for one in addresses)
                if unasked or (isinstance(below, int) and below in _NODE_PORTS):
                    value[name] = "allocated"
            else:
                _hide_allocated(below, asked)
    elif isinstance(value, list):
        for below in value:
            _hide_allocated(below, asked)


def _unlike(wanted: Any, found: Any, path: str, seconds: Set[str]) -> Iterator[str]:
    if type(wanted) is type(found) and isinstance(wanted, dict):
        for name in dict.fromkeys([*wanted, *found]):
            where = f"{path}.{name}" if path else name
            if name not in found:
                yield f"{where}: absent, there {_short(wanted[name])}"
            elif name not in wanted:
                yield f"{where}: {_short(found[name])}, absent there"
            else:
                yield from _unlike(wanted[name], found[name], where, seconds)
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for index, (one, other) in enumerate(zip(wanted, found, strict=True)):
            yield from _unlike(one, other, f"{path}[{index}]", seconds)
    elif wanted == "now" and isinstance(found, str) and found[: len("2006-01-02T15:04:05")] in seconds:
        # A moment that was asked, too, because the object that was asked of was stored in the second of the answer.
        pass
    elif wanted != found or type(wanted) is not type(found):
        yield f"{path}: {_short(found)}, there {_short(wanted)}"


def _short(value: Any) -> str:
    shown = json.dumps(value, sort_keys=True)
    return shown if len(shown) < 200 else f"{shown[:200]}..."


def compared(
    cases: Iterable[Case], theirs: Iterable[Answer], ours: Iterable[Answer]
) -> Iterator[tuple[Case, list[str]]]:
    for case, wanted, found in zip(cases, theirs, ours, strict=True):
        yield case, differences(case, wanted, found)
