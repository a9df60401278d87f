"""Makes and deletes pods for a controller object, telling of it in events on that object.

(kubernetes `pkg/controller/controller_utils.go`, RealPodControl.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.client.client import Client, Object, Outcomes
from kubecore.client.events import EventRecorder


class _Name(msgspec.Struct):
    name: str


class _Named(msgspec.Struct):
    metadata: _Name


_LONGEST_BATCH = 64
_LONGEST_NAME = 253
_NAMED = msgspec.json.Decoder(_Named)


class PodControl:
    def __init__(self, client: Client, recorder: EventRecorder) -> None:
        self._client = client
        self._recorder = recorder

    async def create(self, owner: Object, template: Object, reference: Object, *, generate_name: str = "") -> None:
        """`generate_name` begins the pod's name where that is not the owner's."""
        pod = _pod_of(owner, template, reference)
        if generate_name:
            pod["metadata"]["generateName"] = generate_name
        try:
            made = await self._client.post("pods", pod, meta.namespace(owner))
        except StatusError as error:
            self._failed(owner, error)
            raise
        self._made(owner, made)

    async def create_all(self, owner: Object, template: Object, reference: Object, count: int) -> Outcomes:
        """`count` pods that are all alike, at once."""
        pod = _pod_of(owner, template, reference)
        outcomes = await self._client.post_all("pods", [pod] * count, meta.namespace(owner))
        for outcome in outcomes:
            if isinstance(outcome, bytes):
                self._made(owner, outcome)
            elif isinstance(outcome, StatusError):
                self._failed(owner, outcome)
        return outcomes

    def _made(self, owner: Object, pod: bytes) -> None:
        self._recorder.event(owner, "Normal", "SuccessfulCreate", f"Created pod: {_NAMED.decode(pod).metadata.name}")

    def _failed(self, owner: Object, error: StatusError) -> None:
        if not error.has_cause("NamespaceTerminating"):
            self._recorder.event(owner, "Warning", "FailedCreate", f"Error creating: {error.message}")

    async def delete(self, owner: Object, pod: Object) -> None:
        """Delete a pod; NotFound when somebody else was first."""
        try:
            await self._client.delete("pods", meta.name(pod), meta.namespace(pod), uid=meta.uid(pod))
        except StatusError as error:
            if not errors.is_not_found(error):
                self._recorder.event(owner, "Warning", "FailedDelete", f"Error deleting: {error.message}")
            raise
        self._recorder.event(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {meta.name(pod)}")


def pod_from_template(owner: Object, template: Object, reference: Object) -> Object:
    """The pod a controller object asks for, with a generated name."""
    pod: Object = meta.deepcopy(_pod_of(owner, template, reference))
    return pod


def _pod_of(owner: Object, template: Object, reference: Object) -> Object:
    """Likewise, with parts that are still the template's."""
    source = template.get("metadata") or {}
    metadata: Object = {
        "generateName": _prefix(meta.name(owner)),
        "namespace": meta.namespace(owner),
        "ownerReferences": [reference],
    }
    for field in ("labels", "annotations", "finalizers"):
        if source.get(field):
            metadata[field] = source[field]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def _prefix(owner: str) -> str:
    """What the names of its pods begin with: with a dash, where that makes no prefix that is too long for a name."""
    return f"{owner}-" if len(owner) < _LONGEST_NAME else owner


async def slow_start(count: int, step: Callable[[], Awaitable[object]]) -> tuple[int, BaseException | None]:
    """`slow_start_of_many` of steps that are taken one by one."""

    async def steps(number: int) -> Sequence[object]:
        return await asyncio.gather(*(step() for _ in range(number)), return_exceptions=True)

    return await slow_start_of_many(count, steps)


async def slow_start_of_many(
    count: int, steps: Callable[[int], Awaitable[Sequence[object]]]
) -> tuple[int, BaseException | None]:
    """Take `count` steps, in batches of 1, 2, 4, ..., and stop after a batch in which one failed: `steps` takes as many
    as it is told and gives what each came to, an exception where it failed.

    So a quota that is used up costs one refused request, not hundreds. No batch is longer than what the API takes at
    once without letting others wait. Returns how often it worked, and an error.
    """
    done, batch = 0, 1
    remaining = count
    while remaining > 0:
        batch = min(batch, remaining)
        results = await steps(batch)
        failed = [result for result in results if isinstance(result, BaseException)]
        done += batch - len(failed)
        if failed:
            return done, failed[0]
        remaining -= batch
        batch = min(2 * batch, _LONGEST_BATCH)
    return done, None
