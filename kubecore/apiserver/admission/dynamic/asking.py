"""Asks one webhook about one request.

After upstream k8s.io/apiserver pkg/admission/plugin/webhook/{mutating,validating}/dispatcher.go.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from kubecore.api import errors
from kubecore.api.errors import StatusError
from kubecore.api.label_names import qualified_name
from kubecore.api.quoting import quoted
from kubecore.apiserver.admission.dynamic import reviews
from kubecore.apiserver.admission.dynamic.conditions import Judgement, inputs_of, matched
from kubecore.apiserver.admission.dynamic.rules import object_selected
from kubecore.apiserver.admission.metrics import WEBHOOK_TYPES
from kubecore.apiserver.registry import lifecycle
from kubecore.apiserver.tracing import spans
from kubecore.apiserver.webhooks.calling import NoClient, WebhookError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence

    from kubecore.api.scheme import Resource
    from kubecore.apiserver.admission.dynamic.reviews import Answer
    from kubecore.apiserver.admission.dynamic.rules import Namespaces
    from kubecore.apiserver.admission.dynamic.subjects import Form, Subject
    from kubecore.apiserver.admission.dynamic.webhooks import Webhook
    from kubecore.apiserver.admission.metrics import AdmissionMetrics
    from kubecore.apiserver.authorization.authorizer import Authorizer
    from kubecore.apiserver.registry.strategy import RequestContext
    from kubecore.apiserver.webhooks.calling import WebhookCaller
    from kubecore.apiserver.webhooks.credentials import Credentials
    from kubecore.clock import Clock

JSON = dict[str, Any]
T = TypeVar("T")


class CallFailed(Exception):
    """The webhook could not be asked, or answered with nonsense; its failure policy says what that means. Metrics tell
    the `code`."""

    def __init__(self, webhook: Webhook, reason: str, code: int = 503) -> None:
        super().__init__(f"failed calling webhook {quoted(webhook.name)}: {reason}")
        self.webhook = webhook
        self.code = code


class Asking:
    def __init__(
        self,
        caller: WebhookCaller,
        namespaces: Namespaces,
        authorizer: Authorizer,
        clock: Clock,
        metrics: AdmissionMetrics,
        credentials: Mapping[bool, Credentials],
    ) -> None:
        """`credentials` are those for mutating webhooks, and for others."""
        self._caller = caller
        self._namespaces = namespaces
        self._authorizer = authorizer
        self._clock = clock
        self._credentials = credentials
        self._conditions = metrics.conditions
        self.metrics = metrics.webhooks

    async def wanted(self, webhook: Webhook, subject: Subject, target: Resource, *, mutating: bool) -> bool:
        """Whether a webhook whose rules match is to be asked. Raises 403 where its conditions cannot tell."""
        match = webhook.match
        if not object_selected(match.objects, subject) or not self._namespaces.selected(match.namespaces, subject):
            return False
        if webhook.conditions is None:
            return True
        # Conditions of webhooks do not see the namespace.
        inputs = inputs_of(subject, target, await subject.form(target), None)
        judge = Judgement(self._authorizer.answer, subject.ctx.user)
        began = self._clock.monotonic()
        work = partial(matched, webhook.conditions, inputs, judge, ignores_failure=webhook.ignores_failure)
        found = await self._authorizer.settled(work)
        labels = (webhook.name, "webhook", WEBHOOK_TYPES[mutating], subject.ctx.operation)
        self._conditions.evaluated(*labels, self._clock.monotonic() - began, errors=found.errors)
        if found.refusal:
            resource = subject.resource
            raise errors.forbidden(resource.group, resource.plural, subject.name, found.refusal)
        if not found.holds:
            self._conditions.excluded(*labels)
        return found.holds

    async def counted(self, webhook: Webhook, subject: Subject, call: Awaitable[T], *, mutating: bool) -> T:
        """What `call` comes to, which asks the webhook, as metrics and traces hear of it."""
        began = self._clock.monotonic()
        step = "Call mutating webhook" if mutating else "Call validating webhook"
        try:
            with spans.step(step, lambda: _described(webhook, subject)):
                found = await call
        except (CallFailed, StatusError) as failed:
            self._tell(webhook, subject, began, *_failure(failed, webhook), mutating=mutating)
            raise
        self._tell(webhook, subject, began, 200, "", mutating=mutating)
        return found

    def _tell(self, webhook: Webhook, subject: Subject, began: float, code: int, error: str, *, mutating: bool) -> None:
        seconds = self._clock.monotonic() - began
        if mutating and subject.ctx.waited is not None:
            subject.ctx.waited(seconds)
        if (record := subject.ctx.audit) is not None:
            record.took("mutating-webhook" if mutating else "validating-webhook", seconds)
        operation = subject.ctx.operation
        self.metrics.called(webhook.name, operation, seconds, mutating=mutating, code=code, error=error)

    async def together(self, ctx: RequestContext, calls: Sequence[Awaitable[None]]) -> None:
        """All calls at once, so that the longest is what the request waits for."""
        began = self._clock.monotonic()
        try:
            if len(calls) == 1:
                await calls[0]
            else:
                await asyncio.gather(*calls)
        finally:
            if ctx.waited is not None:
                ctx.waited(self._clock.monotonic() - began)

    async def ask(self, webhook: Webhook, subject: Subject, target: Resource, form: Form, *, mutating: bool) -> Answer:
        """The answer, which allows the request. Raises CallFailed, and StatusError when the request is refused."""
        ctx = subject.ctx
        if ctx.dry_run and not webhook.harmless:
            raise errors.bad_request(f"admission webhook {quoted(webhook.name)} does not support dry run")
        version = next((one for one in webhook.review_versions if one in reviews.VERSIONS), None)
        if version is None:
            known = "webhook does not accept known AdmissionReview versions (v1, v1beta1)"
            raise CallFailed(webhook, f"could not create admission objects: {known}", 400)
        uid = lifecycle.new_uid()
        body = reviews.review(version, uid, reviews.request_of(subject, target), form)
        answer = await self._call(webhook, ctx, body, version, uid, mutating=mutating)
        for name, value in answer.annotations.items():
            if not qualified_name(key := f"{webhook.name}/{name}"):
                ctx.annotate(key, value)
        for text in answer.warnings:
            ctx.warn(text)
        if not answer.allowed:
            raise reviews.denial(webhook.name, answer.status)
        return answer

    async def _call(
        self, webhook: Webhook, ctx: RequestContext, body: bytes, version: str, uid: str, *, mutating: bool
    ) -> Answer:
        seconds = min(ctx.seconds_left(), webhook.seconds)
        try:
            credential = self._credentials[mutating].of(*webhook.target.authority)
            answer = await self._caller.post(webhook.target, body, timeout_seconds=seconds, credential=credential)
            return reviews.answer_of(answer, version, uid, mutating=mutating)
        except NoClient as error:
            raise CallFailed(webhook, f"could not get REST client: {error}", error.code) from None
        except WebhookError as error:
            raise CallFailed(webhook, f"failed to call webhook: {error}", error.code) from None
        except reviews.Unreadable as error:
            raise CallFailed(webhook, f"failed to call webhook: {error}") from None
        except reviews.BadAnswer as error:
            raise CallFailed(webhook, f"received invalid webhook response: {error}") from None


def _described(webhook: Webhook, subject: Subject) -> dict[str, str]:
    return {
        "configuration": webhook.configuration,
        "webhook": webhook.name,
        "resource": f"{subject.resource.api_version}, Resource={subject.resource.plural}",
        "subresource": subject.subresource,
        "operation": subject.ctx.operation,
    }


def _failure(failed: CallFailed | StatusError, webhook: Webhook) -> tuple[int, str]:
    """The code that metrics tell, and why the request is rejected; no reason where it is not."""
    if isinstance(failed, CallFailed):
        return failed.code, "" if webhook.ignores_failure else "calling_webhook_error"
    return (failed.code, "no_error") if isinstance(failed, reviews.Denial) else (0, "apiserver_internal_error")


def refusal(failed: CallFailed) -> StatusError:
    """What a failure means where it is not ignored."""
    return errors.internal_error(failed)
