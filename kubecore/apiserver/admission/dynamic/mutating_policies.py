"""MutatingAdmissionPolicy: expressions make patches, which are applied one after the other.

After upstream k8s.io/apiserver pkg/admission/plugin/policy/mutating/dispatcher.go and generic/policy_dispatcher.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from kubecore.api import errors
from kubecore.api.errors import StatusError
from kubecore.apiserver.admission.dynamic.conditions import ConditionError
from kubecore.apiserver.admission.dynamic.judging import Case, Judging
from kubecore.apiserver.admission.dynamic.mutating import DoesNotApply, patched
from kubecore.apiserver.admission.dynamic.parameters import Misconfigured
from kubecore.apiserver.admission.dynamic.policies import error_type
from kubecore.apiserver.admission.dynamic.subjects import kind_of
from kubecore.apiserver.admission.dynamic.validating_policies import forbidden
from kubecore.apiserver.registry.codec import dumps, loads

if TYPE_CHECKING:
    from kubecore.api.scheme import Resource
    from kubecore.apiserver.admission.dynamic.conditions import Judgement
    from kubecore.apiserver.admission.dynamic.mutating import Reinvocation
    from kubecore.apiserver.admission.dynamic.policies import Binding, Policy
    from kubecore.apiserver.admission.dynamic.subjects import Subject

# Names of policy, binding and parameter.
Invoked = tuple[str, str, str]
# Why a request is refused: what is said, and the Status' reason where it is another one than Forbidden.
Refused = tuple[str, str]


class _Invocation(NamedTuple):
    policy: Policy
    binding: Binding
    target: Resource
    param: bytes | None
    key: Invoked


class MutationError(Exception):
    """A mutation that could not be carried out; the text says why."""


class MutatingPolicies:
    def __init__(self, judging: Judging, policies: Sequence[Policy]) -> None:
        self.all = policies
        self._judging = judging

    async def mutate(self, subject: Subject, books: Reinvocation[Invoked], *, again: bool) -> bool:
        """Whether anything has changed. `again`: only those that are due are asked. Raises StatusError to refuse."""
        refused: list[Refused] = []
        any_change = False
        judge = self._judging.judge(subject)
        for one in await self._invocations(subject, refused):
            if again and one.key not in books.due:
                continue
            any_change = await self._invoke(one, subject, judge, books, refused) or any_change
        if refused:
            message, reason = refused[0]
            refusal = forbidden(subject, message)
            refusal.message, refusal.reason = message, reason or refusal.reason
            assert refusal.details is not None
            refusal.details["causes"] = [{"message": message} for message, _ in refused]
            raise refusal
        return any_change

    async def _invocations(self, subject: Subject, refused: list[Refused]) -> list[_Invocation]:
        found = []
        for policy in self.all:
            try:
                target = self._judging.target(policy, subject)
            except (StatusError, Misconfigured) as error:
                if not policy.ignores_failure:
                    why = f"failed to configure policy: {error}"
                    refused.append((f'policy "{policy.name}" denied request: {why}', ""))
                continue
            if target is None:
                continue
            for binding in policy.bindings:
                try:
                    params = await self._judging.params(policy, binding, subject)
                except (StatusError, Misconfigured) as error:
                    _refuse(policy, binding, f"failed to configure binding: {error}", refused, reason="")
                    continue
                found += [_Invocation(policy, binding, target, one, _key(policy, binding, one)) for one in params]
        return found

    async def _invoke(
        self, one: _Invocation, subject: Subject, judge: Judgement, books: Reinvocation[Invoked], refused: list[Refused]
    ) -> bool:
        policy, target, changed = one.policy, one.target, False
        case = Case(policy, await self._judging.inputs(subject, target), judge, one.param)
        try:
            if not await self._judging.applies(case, subject):
                return False
        except ConditionError as error:
            _refuse(policy, one.binding, str(error), refused)
            return False
        for place, kind in policy.mutations:
            form = await subject.form(target)
            if form.object is None:
                continue
            began, error_told = self._judging.clock.monotonic(), "no_error"
            try:
                work = partial(_patched, case, place, kind, subject, target, form.object)
                made = await self._judging.settled(work)
            except (MutationError, ValueError) as error:
                error_told = error_type(str(error))
                _refuse(policy, one.binding, str(error), refused)
                continue
            except StatusError as error:
                error_told = error_type(str(error))
                raise
            finally:
                seconds = self._judging.clock.monotonic() - began
                self._judging.metrics.mutated(policy.name, one.binding.name, seconds, error=error_told)
            if made is not None and await subject.put(target, made):
                changed = True
                case = case._replace(inputs=await self._judging.inputs(subject, target))
        if changed:
            books.changed()
        if policy.reinvoked:
            books.asked.add(one.key)
        return changed


def _patched(case: Case, place: int, kind: str, subject: Subject, target: Resource, body: bytes) -> bytes | None:
    """The object after one mutation; None where there is nothing to be done. Raises MutationError; ValueError when the
    budget does not do; StatusError where no object is left."""
    [(made, error)], _ = case.evaluate([place])
    if error is not None:
        raise MutationError(error)
    assert isinstance(made, bytes)
    schema = subject.schema(target)
    if kind == "ApplyConfiguration":
        head = kind_of(target, subject.subresource)
        version = f"{head.group}/{head.version}".lstrip("/")
        config = dumps({**loads(made), "apiVersion": version, "kind": head.kind})
        try:
            return schema.configure(body, config)
        except ValueError as problem:
            raise MutationError(f"error applying patch: {problem}") from None
    try:
        return patched(schema, body, made, "Strict")
    except DoesNotApply as problem:
        if str(problem).startswith("testing value "):
            # What a patch tests first and finds otherwise is left alone.
            return None
        raise MutationError(f"JSON Patch: {problem}") from None
    except ValueError as problem:
        # Of what is no object any more upstream does not ask whose failure is ignored.
        raise errors.internal_error(problem) from None


def _refuse(policy: Policy, binding: Binding, why: str, refused: list[Refused], *, reason: str = "Invalid") -> None:
    if not policy.ignores_failure:
        refused.append((f"policy '{policy.name}' with binding '{binding.name}' denied request: {why}", reason))


def _key(policy: Policy, binding: Binding, param: bytes | None) -> Invoked:
    if param is None:
        return policy.name, binding.name, ""
    metadata = loads(param)["metadata"]
    return policy.name, binding.name, f"{metadata.get('namespace') or ''}/{metadata['name']}"
