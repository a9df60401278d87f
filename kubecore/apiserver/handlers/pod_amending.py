"""Conditions of pods, as a component of this process sets them: each is written and told as the strategic merge patch
of the status that says no more than it, and what all have in common is settled once. A pod that goes with it is deleted
in the same write: what is told of its end has the condition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from kubecore.api.errors import StatusError
from kubecore.api.label_names import SUBDOMAIN_RE
from kubecore.api.schemas import BuiltinKind, SchemaError, apart
from kubecore.apiserver.authorization.attributes import Attributes
from kubecore.apiserver.handlers.failing import telling
from kubecore.apiserver.handlers.request import JSON_TYPE
from kubecore.apiserver.registry import deletion, direct_writes, lifecycle
from kubecore.apiserver.registry.codec import OF_STATUS, dumps, loads
from kubecore.apiserver.registry.options import DeleteOptions, write_options
from kubecore.apiserver.registry.size_limit import MOST_BYTES
from kubecore.apiserver.registry.writes import Change
from kubecore.apiserver.storage.interface import StorageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from kubecore._native import UserInfo
    from kubecore.api.amendment import Amendment
    from kubecore.api.schemas import DeferredValue
    from kubecore.apiserver.authorization.authorizer import Authorizer
    from kubecore.apiserver.handlers.request import Request
    from kubecore.apiserver.handlers.served import Served
    from kubecore.apiserver.handlers.writing import Writing
    from kubecore.apiserver.storage.interface import Stored

JSON = dict[str, Any]

_is_name = SUBDOMAIN_RE.fullmatch
_MOST_KNOWN = 64
# Room for what is added to a pod, which is not measured.
_ROOM = 64 * 1024


class _ToldMetadata(msgspec.Struct):
    uid: str = ""
    generation: int = 0
    deletionTimestamp: str | None = None
    annotations: dict[str, str] | None = None
    finalizers: list[str] | None = None


class _ToldSpec(msgspec.Struct):
    nodeName: str = ""
    terminationGracePeriodSeconds: int | None = None


class _ToldStatus(msgspec.Struct):
    phase: str = ""


class _Told(msgspec.Struct):
    """What of a pod says whether it can be amended at once, and how long its end may take."""

    metadata: _ToldMetadata
    spec: _ToldSpec
    status: _ToldStatus | None = None


_TOLD = msgspec.json.Decoder(_Told)


@dataclass(frozen=True, slots=True)
class _Shown:
    """A condition as it was given, as the schema has it, that as JSON, and of that what was given."""

    given: JSON
    whole: JSON
    whole_json: bytes
    given_json: bytes


class _Whole(Exception):
    """The pod has to be looked at as a whole."""


class PodAmending:
    """`patch` and `delete` are what one pod alone would be asked for with, but for its name. Raises what refuses such
    requests whatever their pod."""

    def __init__(
        self, writing: Writing, authorizer: Authorizer, served: Served, patch: Request, delete: Request
    ) -> None:
        self._writing = writing
        self._authorizer = authorizer
        self._served = served
        self._store = served.stored()
        self._options = write_options("patch", patch.query), write_options("delete", delete.query)
        self._patch = writing.facts(patch, served, self._options[0])
        self._delete = writing.facts(delete, served, self._options[1])
        self._admission = self._store.registry.admission
        schema = self._store.schema
        assert isinstance(schema, BuiltinKind), "pods are built in"
        self._schema = schema
        # By their types, the conditions that were given last, and how they are shown.
        self._known: dict[str, _Shown] = {}

    async def amend_at_once(self, user: UserInfo, amendments: Sequence[Amendment]) -> list[bool]:
        """Those that take one write and are not refused, all of them begun before one is waited for; False for who is
        left to `amend`."""
        done = [False] * len(amendments)
        if self._admission.handles("pods", "UPDATE", "status", user):
            return done
        may_go = not self._admission.handles("pods", "DELETE", "", user)
        now = self._writing.now()
        begun = [
            (number, self._begun(user, given, now))
            for number, given in enumerate(amendments)
            if may_go or not given.goes
        ]
        # The last one is the last to be answered: to wait for it first is to wait once.
        for number, writing in reversed(begun):
            if writing is None:
                continue
            try:
                await writing
            except StorageError:
                continue
            done[number] = True
        return done

    def _begun(self, user: UserInfo, given: Amendment, now: str) -> Awaitable[Stored] | None:
        """The one write that does it; None where it is not as simple as that, or refused."""
        asked = [self._asked("patch", given, "status"), *([self._asked("delete", given)] if given.goes else ())]
        if not all(self._authorizer.allows(user, one) for one in asked):
            return None
        try:
            condition = self._shown(given.condition)
            return direct_writes.begin_rewrite(
                self._store, given.namespace, given.name, lambda stored: self._rewritten(given, condition, stored, now)
            )
        except (_Whole, StatusError, SchemaError):
            return None

    async def amend(self, user: UserInfo, given: Amendment) -> None:
        """As any other client's patch, and delete. Raises StatusError, SchemaError."""
        await self._authorizer.check(user, self._asked("patch", given, "status"))
        await self._set(user, given)
        if given.goes:
            await self._authorizer.check(user, self._asked("delete", given))
            ctx = self._writing.made(user, self._served, self._options[1], _of(self._delete, given), None)
            await deletion.delete(self._store, ctx, DeleteOptions(uid=given.uid))

    def _asked(self, verb: str, given: Amendment, subresource: str = "") -> Attributes:
        return Attributes(verb, "", "v1", "pods", subresource, given.namespace, given.name)

    async def _set(self, user: UserInfo, given: Amendment) -> None:
        ctx = self._writing.made(user, self._served, self._options[0], _of(self._patch, given), None)
        condition = self._shown(given.condition).whole

        def make(old: JSON, stored: Stored) -> JSON:
            pod: JSON = loads(apart(stored.value, OF_STATUS)[0])
            pod["metadata"]["uid"] = given.uid
            _put(pod, given, condition)
            return pod

        with telling(ctx.warnings):
            await self._store.update(ctx, Change(make, without_owners=True))

    def _shown(self, condition: JSON) -> _Shown:
        """The condition as its schema has it. Raises SchemaError."""
        known = self._known.get(condition["type"])
        if known is None or known.given != condition:
            bare = {"apiVersion": "v1", "kind": "Pod", "status": {"conditions": [condition]}}
            decoded = self._served.schema.decode(dumps(bare), JSON_TYPE, "Strict")
            whole: JSON = loads(decoded.body)["status"]["conditions"][0]
            part = {name: whole[name] for name in condition if name in whole}
            known = _Shown(condition, whole, dumps(whole), dumps(part))
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[condition["type"]] = known
        return known

    def _rewritten(self, given: Amendment, condition: _Shown, stored: bytes, now: str) -> tuple[DeferredValue, bool]:
        """A pod that runs or waits and was stored as it is now, as it is then, and whether it is gone: nothing else of
        it has to be judged again. Where nothing changes there is no such value. Raises _Whole."""
        told = _TOLD.decode(stored)
        metadata = told.metadata
        if metadata.uid != given.uid or metadata.deletionTimestamp or metadata.annotations:
            raise _Whole
        if given.goes and metadata.finalizers:
            raise _Whole
        if len(stored) > MOST_BYTES - _ROOM or any(one and not _is_name(one) for one in given.status.values()):
            raise _Whole
        if given.status and told.spec.nodeName:
            raise _Whole
        marks: JSON = {}
        if given.goes:
            known = {"spec": msgspec.to_builtins(told.spec), "status": {"phase": told.status and told.status.phase}}
            lifecycle.mark_deleted(marks, self._store.strategy.delete_grace(known, None) or 0, now=now)
            if metadata.generation:
                marks["generation"] = metadata.generation + 1
        changes = condition.whole_json, condition.given_json, dumps(dict(given.status)), dumps(marks)
        by = self._patch["field_manager"], now
        value = self._schema.amended(stored, changes, by=by, opening=self._store.codec.opening)
        return value, lifecycle.may_go(marks)


def _of(facts: JSON, given: Amendment) -> JSON:
    return {**facts, "namespace": given.namespace, "name": given.name}


def _put(pod: JSON, given: Amendment, condition: JSON) -> None:
    """Sets the condition in the place of the one of its type, of which stays what is not said, or as the last one; and
    members of the status."""
    status = pod.get("status")
    if status is None:
        status = pod["status"] = {}
    before = status.get("conditions") or []
    at = next((at for at, one in enumerate(before) if one.get("type") == condition["type"]), len(before))
    if at < len(before):
        condition = {**before[at], **{name: condition[name] for name in given.condition if name in condition}}
    status["conditions"] = [*before[:at], condition, *before[at + 1 :]]
    for name, value in given.status.items():
        if value is None:
            status.pop(name, None)
        else:
            status[name] = value
