"""Conversion between versions by a webhook: ConversionReview, and what its answer must look like.

After upstream k8s.io/apiextensions-apiserver pkg/apiserver/conversion/webhook_converter.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from kubecore.api.errors import StatusError, aggregated
from kubecore.apiserver.registry import lifecycle
from kubecore.apiserver.registry.codec import Codec, dumps, loads
from kubecore.apiserver.registry.custom.conversion import SchemaOf, api_version_of, completed
from kubecore.apiserver.registry.custom.definition import Definition, Version
from kubecore.apiserver.registry.custom.strategy import GO_TYPES
from kubecore.apiserver.registry.validation.metadata import validate_annotations, validate_labels
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.storage.interface import Stored, Template
from kubecore.apiserver.webhooks.answers import unparsed
from kubecore.apiserver.webhooks.calling import ServiceTarget, Target, WebhookCaller, WebhookError

JSON = dict[str, Any]

_SECONDS = 30.0
_REVIEWS = {"v1": "apiextensions.k8s.io/v1", "v1beta1": "apiextensions.k8s.io/v1beta1"}


class ConversionWebhook:
    """The webhook of one definition."""

    def __init__(self, definition: Definition, caller: WebhookCaller) -> None:
        assert definition.webhook is not None
        self._kind = definition.kind
        self._caller = caller
        webhook = definition.webhook
        service = webhook.service
        self._target = Target(
            url=webhook.url,
            service=None
            if service is None
            else ServiceTarget(service.namespace, service.name, service.port, service.path),
            ca_bundle=webhook.ca_bundle,
        )
        self._review = next((_REVIEWS[one] for one in webhook.review_versions if one in _REVIEWS), "")

    async def convert(self, objects: Sequence[bytes], api_version: str) -> list[JSON]:
        """All of them, which are of other versions, in `api_version`. Raises StatusError 500."""
        if not objects:
            return []
        whose = f"conversion webhook for {api_version_of(objects[0])}, Kind={self._kind}"
        try:
            converted = await self._ask(objects, api_version)
        except WebhookError as error:
            raise _failure(f"{whose} failed: {error}") from None
        if len(converted) != len(objects):
            raise _failure(f"{whose} returned {len(converted)} objects, expected {len(objects)}")
        made = []
        for body, answer in zip(objects, converted, strict=True):
            original = loads(body)
            _check_object(answer)
            if wrong := _wrong(original, answer, api_version):
                raise _failure(f"{whose} returned invalid object{wrong}")
            if wrong := _restore(original, answer):
                raise _failure(f"{whose} returned invalid metadata: {wrong}")
            made.append(answer)
        return made

    async def _ask(self, objects: Sequence[bytes], api_version: str) -> list[Any]:
        uid = lifecycle.new_uid()
        if not self._review:
            raise WebhookError("no supported conversion review versions")
        request = dumps({"uid": uid, "desiredAPIVersion": api_version})
        head = b'{"kind":"ConversionReview","apiVersion":"' + self._review.encode() + b'","request":'
        body = head + request[:-1] + b',"objects":[' + b",".join(objects) + b"]}}"
        answer = await self._caller.post(self._target, body, timeout_seconds=_SECONDS)
        try:
            review = loads(answer)
        except ValueError as error:
            raise WebhookError(unparsed(answer, error)) from None
        return _converted(review, self._review, uid)


def _converted(review: Any, expected: str, uid: str) -> list[Any]:
    """The objects of an answer. Raises WebhookError."""
    found = review if isinstance(review, dict) else {}
    strict = expected == _REVIEWS["v1"]
    if strict and (found.get("apiVersion"), found.get("kind")) != (expected, "ConversionReview"):
        given = f"{found.get('apiVersion') or ''}, Kind={found.get('kind') or ''}"
        raise WebhookError(f"expected webhook response of {expected}, Kind=ConversionReview, got {given}")
    response = found.get("response")
    if not isinstance(response, dict):
        raise WebhookError("no response provided")
    if strict and response.get("uid") != uid:
        raise WebhookError(f'expected response.uid="{uid}", got "{response.get("uid") or ""}"')
    result = response.get("result")
    result = result if isinstance(result, dict) else {}
    if result.get("status") != "Success":
        told = f"response.result.status was '{result.get('status') or ''}', not 'Success'"
        raise WebhookError(str(result.get("message") or told))
    objects = response.get("convertedObjects")
    return objects if isinstance(objects, list) else []


def _failure(message: str) -> StatusError:
    return StatusError(500, "", message)


def _check_object(converted: Any) -> None:
    """Raises StatusError 500 for what is no object of any kind, in the words of Go's decoder alone."""
    if converted is not None and not isinstance(converted, dict):
        given = {str: "string", bool: "bool", list: "array"}.get(type(converted), "number")
        raise _failure(f"json: cannot unmarshal {given} into Go value of type map[string]interface {{}}")
    kind = (converted or {}).get("kind")
    if not kind or not isinstance(kind, str):
        raise _failure(f"Object 'Kind' is missing in '{dumps(converted).decode()}'")


def _wrong(original: JSON, converted: JSON, api_version: str) -> str:
    """What a converted object may not be: upstream has each object converted alone, so that it is always the first."""
    if converted.get("apiVersion") != api_version:
        received = converted.get("apiVersion") or ""
        return f" at index 0: invalid groupVersion (expected {api_version}, received {received})"
    if converted["kind"] != original.get("kind"):
        return f" at index 0: invalid kind (expected {original.get('kind')}, received {converted['kind']})"
    given = converted.get("metadata")
    metadata, before = given if isinstance(given, dict) else {}, original["metadata"]
    for field, name in (("name", "name"), ("namespace", "namespace"), ("uid", "UID")):
        if (metadata.get(field) or "") != (before.get(field) or ""):
            return f": must have the same {name}: {before.get(field) or ''} != {metadata.get(field) or ''}"
    return ""


def _restore(original: JSON, converted: JSON) -> str:
    """Only labels and annotations of a converted object count; what is wrong with them is returned."""
    given = converted.get("metadata")
    if not isinstance(given, dict):
        if "metadata" not in converted:
            return "missing metadata in converted object"
        return f"invalid metadata of type {GO_TYPES[type(given)]} in converted object"
    restored = dict(original["metadata"])
    for field, place, validate in _JUDGED:
        values = given.get(field)
        if values is None:
            restored.pop(field, None)
            continue
        if not isinstance(values, dict):
            return f"invalid metadata.{field} of type {GO_TYPES[type(values)]} in converted object"
        for key, value in values.items():
            if not isinstance(value, str):
                found = GO_TYPES[type(value)]
                return f"metadata.{field}[{key}] must be a string, but is {found} in converted object"
        if values != restored.get(field):
            problems = Problems()
            validate(problems, values, place)
            if problems:
                return aggregated([str(cause) for cause in problems])
        restored[field] = values
    converted["metadata"] = restored
    return ""


# What is judged, and where upstream says that it stands.
_JUDGED = (
    ("labels", "metadata.labels", validate_labels),
    ("annotations", "metadata.annotation", validate_annotations),
)


class WebhookConversion:
    """`Conversion` of the store of one version."""

    changes_fields = True

    def __init__(
        self, definition: Definition, version: Version, schema_of: SchemaOf, webhook: ConversionWebhook
    ) -> None:
        self._own = definition.api_version(version.name)
        self._stored = definition.api_version(definition.storage.name)
        self._own_schema = partial(schema_of, version.name)
        self._stored_schema = partial(schema_of, definition.storage.name)
        self._codec = Codec(definition.resource(definition.storage))
        self._webhook = webhook

    async def read(self, stored: Stored) -> Stored:
        return Stored(stored.revision, (await self.read_all([stored.value]))[0])

    async def read_all(self, items: list[bytes]) -> list[bytes]:
        strange = [item for item in items if api_version_of(item) != self._own]
        converted = iter(await self._webhook.convert(strange, self._own))
        schema = self._own_schema()
        return [
            item if api_version_of(item) == self._own else schema.prune(_canonical(next(converted))) for item in items
        ]

    async def said(self, body: bytes, api_version: str) -> bytes:
        """An object in any version, as the webhook says it. Raises StatusError."""
        [converted] = await self._webhook.convert([body], api_version)
        return _canonical(converted)

    async def template(self, body: bytes) -> Template:
        if self._own != self._stored:
            [converted] = await self._webhook.convert([body], self._stored)
            schema = self._stored_schema()
            body = completed(schema, schema.prune(_canonical(converted)))
        return self._codec.template(body)


def _canonical(obj: JSON) -> bytes:
    return dumps({"apiVersion": None, "kind": None, "metadata": None, **obj})
