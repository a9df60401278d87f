"""MutatingAdmissionWebhook: webhooks change a request one after the other, and again where others changed it after.

After upstream k8s.io/apiserver pkg/admission/plugin/webhook/mutating/dispatcher.go and pkg/admission/reinvocation.go.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import orjson

from kubecore.api import errors
from kubecore.api.quoting import escaped_as_go
from kubecore.api.schemas import PatchError, SchemaError
from kubecore.apiserver.admission.dynamic.asking import Asking, CallFailed, refusal
from kubecore.apiserver.registry.codec import dumps, loads

if TYPE_CHECKING:
    from kubecore.api.schemas import KindSchema
    from kubecore.api.scheme import Resource
    from kubecore.apiserver.admission.dynamic.reviews import Answer
    from kubecore.apiserver.admission.dynamic.subjects import Form, Subject
    from kubecore.apiserver.admission.dynamic.webhooks import Webhook

log = logging.getLogger(__name__)

JSON = dict[str, Any]
# The place of a webhook among all, the webhook, and what it is to see the request as.
Matched = tuple[int, "Webhook", "Resource"]

JSON_PATCH = "application/json-patch+json"
_MUTATION, _PATCH = "mutation.webhook.admission.k8s.io/", "patch.webhook.admission.k8s.io/"
_FAILED_OPEN = "failed-open."
_UNRECOGNIZED = "the object provided is unrecognized "


T = TypeVar("T")


@dataclass(slots=True)
class Reinvocation(Generic[T]):
    """Which of those that have been asked want to be asked again, and which of them must be."""

    asked: set[T] = field(default_factory=set)
    due: set[T] = field(default_factory=set)

    def changed(self) -> None:
        """Somebody has changed the object after those were asked."""
        self.due |= self.asked
        self.asked.clear()


async def mutate(
    asking: Asking, subject: Subject, webhooks: Sequence[Matched], books: Reinvocation[int], *, number: int
) -> bool:
    """Whether anything has changed in this round, the first (0) or the second, which is for those that are due. Raises
    StatusError to refuse."""
    any_change = False
    for place, webhook, target in webhooks:
        if number and place not in books.due:
            continue
        if not await asking.wanted(webhook, subject, target, mutating=True):
            continue
        where, changed = f"round_{number}_index_{place}", False
        try:
            call = _ask(asking, webhook, subject, target, where)
            changed = await asking.counted(webhook, subject, call, mutating=True)
        except CallFailed as failed:
            if not webhook.ignores_failure:
                log.warning("%s; failing closed", failed)
                raise refusal(failed) from None
            log.warning("%s; failing open", failed)
            asking.metrics.failed_open(webhook.name, mutating=True)
            subject.ctx.annotate(f"{_FAILED_OPEN}{_MUTATION}{where}", webhook.name)
            # The request as a whole may be out of time.
            subject.ctx.seconds_left()
        finally:
            told = {"configuration": webhook.configuration, "webhook": webhook.name, "mutated": changed}
            subject.ctx.annotate(f"{_MUTATION}{where}", _as_annotation(told))
        if changed:
            any_change = True
            books.changed()
        if webhook.reinvoked:
            books.asked.add(place)
    return any_change


async def _ask(asking: Asking, webhook: Webhook, subject: Subject, target: Resource, where: str) -> bool:
    """Whether the webhook has changed the object."""
    form = await subject.form(target)
    answer = await asking.ask(webhook, subject, target, form, mutating=True)
    patch = _patch_of(webhook, answer)
    if not patch:
        return False
    if form.object is None:
        detail = "attempted to modify the object, which is not supported for this operation"
        raise errors.internal_error(f'admission webhook "{webhook.name}" {detail}')
    if answer.patch_type != "JSONPatch":
        raise CallFailed(webhook, f'unsupported patch type "{answer.patch_type}"', 400)
    changed = await put_patched(subject, target, form, dumps(patch))
    operations = [dict(sorted(one.items())) if isinstance(one, dict) else one for one in patch]
    told: JSON = {"configuration": webhook.configuration, "webhook": webhook.name}
    told |= {"patch": operations, "patchType": "JSONPatch"}
    subject.ctx.annotate(f"{_PATCH}{where}", _as_annotation(told), of_object=True)
    return changed


def _as_annotation(told: JSON) -> str:
    return escaped_as_go(orjson.dumps(told)).decode()


async def put_patched(subject: Subject, target: Resource, form: Form, patch: bytes) -> bool:
    """Applies a JSON patch. Raises 500 for one that cannot be applied, or that makes no object of the kind."""
    assert form.object is not None
    try:
        body = patched(subject.schema(target), form.object, patch)
    except ValueError as error:
        raise errors.internal_error(error) from None
    return await subject.put(target, body)


class DoesNotApply(ValueError):
    """A JSON patch, to the object it is given."""


def patched(schema: KindSchema, body: bytes, patch: bytes, field_validation: str = "Ignore") -> bytes:
    """An object after a JSON patch. Raises DoesNotApply, and ValueError where the patch makes no object of the kind, in
    the words of what upstream patches and decodes with."""
    try:
        return schema.decode(schema.patch(body, patch, JSON_PATCH), "application/json", field_validation).body
    except PatchError as error:
        raise DoesNotApply(error.detail or error.message) from None
    except SchemaError as error:
        _, _, why = error.message.partition(" cannot be handled as a ")
        if error.message.startswith(_UNRECOGNIZED):
            # Of what says so, and of how the body begins, which follows, upstream knows nothing here.
            raise ValueError(error.message.partition("): ")[2].rpartition(" (")[0]) from None
        raise ValueError(why.partition(": ")[2] or error.message) from None


def _patch_of(webhook: Webhook, answer: Answer) -> list[JSON]:
    if not answer.patch:
        return []
    try:
        patch = loads(answer.patch)
    except orjson.JSONDecodeError as error:
        raise CallFailed(webhook, f"received undecodable patch in webhook response: {error}") from None
    if patch is None:
        return []
    if not isinstance(patch, list):
        given = {dict: "object", str: "string", bool: "bool"}.get(type(patch), "number")
        why = f"json: cannot unmarshal {given} into Go value of type jsonpatch.Patch"
        raise CallFailed(webhook, f"received undecodable patch in webhook response: {why}")
    return patch
