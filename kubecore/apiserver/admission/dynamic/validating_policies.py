"""ValidatingAdmissionPolicy: expressions judge a request.

After upstream k8s.io/apiserver pkg/admission/plugin/policy/validating/{dispatcher,validator}.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import orjson

from kubecore.api import errors
from kubecore.api.errors import Cause, StatusError
from kubecore.api.quoting import escaped_as_go
from kubecore.apiserver.admission.dynamic.conditions import ConditionError
from kubecore.apiserver.admission.dynamic.judging import BUDGET, Case, Judging
from kubecore.apiserver.admission.dynamic.parameters import Misconfigured
from kubecore.apiserver.admission.dynamic.policies import error_type

if TYPE_CHECKING:
    from kubecore import _native
    from kubecore.api.scheme import Resource
    from kubecore.apiserver.admission.dynamic.conditions import Judgement
    from kubecore.apiserver.admission.dynamic.policies import Binding, Policy, Validation
    from kubecore.apiserver.admission.dynamic.subjects import Subject

# What to say, and the reason.
Refused = tuple[str, str]
# What expressions see of the request, by the version that it is seen in.
Seen = dict[str, "_native.AdmissionInputs"]

_FAILURE = "validation.policy.admission.k8s.io/validation_failure"
_LONGEST_MESSAGE, _LONGEST_ANNOTATION = 5 * 1024, 10 * 1024
_CODES = {"Forbidden": 403, "Unauthorized": 401, "RequestEntityTooLarge": 413}


@dataclass(frozen=True, slots=True)
class _Denial:
    """`at` is the place among the policy's validations; `reason` is empty where an error is why."""

    message: str
    reason: str = ""
    at: int = 0


@dataclass(slots=True)
class _Findings:
    """Of one policy, with one binding and one parameter. `seconds` is what an expression has taken, on average."""

    denials: list[_Denial] = field(default_factory=list)
    # Errors that the failure policy has passed over.
    ignored: list[str] = field(default_factory=list)
    seconds: float = 0.0
    # Faults of audit annotations, which deny whatever the binding's actions are.
    faults: list[str] = field(default_factory=list)
    annotations: list[tuple[str, str]] = field(default_factory=list)


class ValidatingPolicies:
    def __init__(self, judging: Judging, policies: Sequence[Policy]) -> None:
        self.all = policies
        self._judging = judging

    async def validate(self, subject: Subject) -> None:
        """Raises StatusError when a policy denies the request: the first one that does."""
        refused: list[Refused] = []
        judge = self._judging.judge(subject)
        seen: Seen = {}
        for policy in self.all:
            target = self._target(policy, subject, refused)
            if target is not None and not await self._holds(policy, subject, target, judge, seen):
                await self._judge(policy, subject, target, judge, seen, refused)
        if refused:
            raise _refusal(subject, *refused[0])

    def _target(self, policy: Policy, subject: Subject, refused: list[Refused]) -> Resource | None:
        try:
            return self._judging.target(policy, subject)
        except (StatusError, Misconfigured) as error:
            _misconfigured(policy, None, error, refused)
            return None

    async def _holds(self, policy: Policy, subject: Subject, target: Resource, judge: Judgement, seen: Seen) -> bool:
        """Whether nothing more is to be found out: most policies are plain, and most requests are as they want them."""
        if not policy.is_plain:
            return False
        inputs = seen.get(target.api_version) or await self._inputs(subject, target, seen)
        return judge.holds(policy.rules, inputs, budget=BUDGET, only=policy.places)

    async def _judge(
        self,
        policy: Policy,
        subject: Subject,
        target: Resource,
        judge: Judgement,
        seen: Seen,
        refused: list[Refused],
    ) -> None:
        """Adds what is refused to `refused`."""
        told: dict[str, dict[str, None]] = {}
        for binding in policy.bindings:
            try:
                params = await self._judging.params(policy, binding, subject)
            except (StatusError, Misconfigured) as error:
                _misconfigured(policy, binding, error, refused)
                continue
            for param in params:
                case = Case(policy, await self._inputs(subject, target, seen), judge, param)
                findings = await self._judged(case, subject)
                self._count(binding, case, findings)
                _act(policy, binding, findings, subject, refused)
                for key, value in findings.annotations:
                    told.setdefault(key, {})[value] = None
        for key, values in told.items():
            subject.ctx.annotate(f"{policy.name}/{key}", ", ".join(values))

    async def _judged(self, case: Case, subject: Subject) -> _Findings:
        began = self._judging.clock.monotonic()
        try:
            if not await self._judging.applies(case, subject):
                return _Findings()
            began = self._judging.clock.monotonic()
            findings = await self._judging.settled(partial(_evaluated, case))
        except (ConditionError, ValueError) as error:
            # Errors, and budgets that are spent.
            if case.policy.ignores_failure:
                return _Findings(ignored=[str(error)])
            return _Findings(denials=[_Denial(str(error))])
        expressions = len(case.policy.validations) + len(case.policy.annotations)
        findings.seconds = (self._judging.clock.monotonic() - began) / max(expressions, 1)
        return findings

    def _count(self, binding: Binding, case: Case, findings: _Findings) -> None:
        """What was simply found good is not told."""
        told = [(error, "allow") for error in findings.ignored]
        told += [(denial.message, action.lower()) for denial in findings.denials for action in binding.actions]
        told += [(fault, "deny") for fault in findings.faults]
        for message, action in told:
            self._judging.metrics.checked(
                case.policy.name, binding.name, findings.seconds, error=error_type(message), action=action
            )

    async def _inputs(self, subject: Subject, target: Resource, seen: Seen) -> _native.AdmissionInputs:
        inputs = seen.get(target.api_version)
        if inputs is None:
            inputs = seen[target.api_version] = await self._judging.inputs(subject, target)
        return inputs


def _misconfigured(policy: Policy, binding: Binding | None, why: Exception, refused: list[Refused]) -> None:
    if not policy.ignores_failure:
        what = "policy" if binding is None else "binding"
        refused.append((_denied(policy, binding, f"failed to configure {what}: {why}"), ""))


def _evaluated(case: Case) -> _Findings:
    """Raises ValueError where a budget is spent."""
    findings = _Findings()
    _validate(case, findings)
    _annotate(case, findings)
    return findings


def _validate(case: Case, findings: _Findings) -> None:
    validations, ignores_failure, places = case.policy.validations, case.policy.ignores_failure, case.policy.places
    found, left = case.evaluate(places)
    for at, (place, (value, error)) in enumerate(zip(places, found, strict=True)):
        if error is not None:
            if ignores_failure:
                findings.ignored.append(error)
            else:
                findings.denials.append(_Denial(error, at=at))
        elif value is not True and (denial := _denial(case, validations[place], left, at)) is not None:
            findings.denials.append(denial)


def _denial(case: Case, validation: Validation, budget: int, at: int) -> _Denial | None:
    """None where the message cannot be made and failures are ignored."""
    said = None
    if validation.message_at is not None:
        try:
            [(said, _)], _ = case.evaluate([validation.message_at], budget)
        except ValueError as error:
            return None if case.policy.ignores_failure else _Denial(f"failed messageExpression: {error}", at=at)
    message = said.strip() if isinstance(said, str) else ""
    if not message or len(message.encode()) > _LONGEST_MESSAGE or "\n" in message:
        message = validation.message
    return _Denial(message, validation.reason, at)


def _annotate(case: Case, findings: _Findings) -> None:
    annotations = case.policy.annotations
    if not annotations:
        return
    places = list(annotations)
    found, _ = case.evaluate(places)
    for place, (value, error) in zip(places, found, strict=True):
        if error is not None:
            if not case.policy.ignores_failure:
                findings.faults.append(error)
        elif isinstance(value, str) and (text := value.strip()):
            findings.annotations.append((annotations[place], text[:_LONGEST_ANNOTATION]))


def _act(policy: Policy, binding: Binding, findings: _Findings, subject: Subject, refused: list[Refused]) -> None:
    """What the binding wants done about what was found."""
    for denial in findings.denials:
        for action in binding.actions:
            if action == "Deny":
                refused.append((_denied(policy, binding, denial.message), denial.reason))
            elif action == "Warn":
                whose = f"ValidatingAdmissionPolicy '{policy.name}' with binding '{binding.name}'"
                subject.ctx.warn(f"Validation failed for {whose}: {denial.message}")
            else:
                subject.ctx.annotate(_FAILURE, _failure(policy, binding, denial))
    refused += [(_denied(policy, binding, fault), "") for fault in findings.faults]


def _failure(policy: Policy, binding: Binding, denial: _Denial) -> str:
    failure = {
        "message": denial.message,
        "policy": policy.name,
        "binding": binding.name,
        "expressionIndex": denial.at,
        "validationActions": binding.actions,
    }
    return escaped_as_go(orjson.dumps([failure])).decode()


def _denied(policy: Policy, binding: Binding | None, message: str) -> str:
    bound = "" if binding is None else f" with binding '{binding.name}'"
    return f"ValidatingAdmissionPolicy '{policy.name}'{bound} denied request: {message}"


def _refusal(subject: Subject, message: str, reason: str) -> StatusError:
    refusal = forbidden(subject, message)
    refusal.reason = reason or "Invalid"
    refusal.code = _CODES.get(refusal.reason, 422)
    return refusal


def forbidden(subject: Subject, message: str) -> StatusError:
    """The 403 of an admission plugin, with the message as its cause, too."""
    resource = subject.resource
    return errors.forbidden(resource.group, resource.plural, subject.known_as, message, causes=[Cause("", message)])
