"""Has images ready before containers are made from them: by their pull policies, with back-off where it fails.

After upstream `pkg/kubelet/images/image_manager.go`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from kubecore.api import meta
from kubecore.clock import Clock
from kubecore.images import credentials
from kubecore.images.credentials import Credentials
from kubecore.images.references import InvalidReference, Reference
from kubecore.images.registries import PullError, Registries
from kubecore.images.store import Image, ImageStore
from kubecore.kubelet.pods.environment import Lookup
from kubecore.kubelet.pods.pull_records import PullRecords, Verification
from kubecore.kubelet.runtime.interface import RuntimeFailure, RuntimeImages

Object = dict[str, Any]

_FIRST_SECONDS, _LONGEST_SECONDS = 10.0, 300.0

_T = TypeVar("_T")

Tell = Callable[[str, str, str], None]
"""(type, reason, message) of an event."""


@dataclass
class _Attempt:
    """To pull one image for one pod. `task` is the one that runs or has run; `retry_at`: not before, monotonic."""

    task: asyncio.Task[Image] | None = None
    started: float = 0.0
    seconds: float = 0.0
    retry_at: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class _StoredImages:
    """Those of kubecore's own runtimes."""

    store: ImageStore
    registries: Registries

    async def find(self, text: str) -> Image | None:
        return self.store.find(text)

    async def pull(
        self, reference: Reference, known: Sequence[Credentials], used: Callable[[Credentials | None], None]
    ) -> Image:
        # An HTTP client takes its time to be loaded, and many clusters never pull.
        from kubecore.images import registry

        return await registry.pull(reference, self.store, self.registries, list(known), used)


class ImagePuller:
    """`lookup` finds the Secrets that pods name. `pulled` is called with the seconds that it took and the size of what
    has come. `verification`: whom images that are there must have been pulled for."""

    def __init__(
        self,
        store: ImageStore,
        registries: Registries,
        clock: Clock,
        lookup: Lookup,
        pulled: Callable[[float, int], None] = lambda seconds, size: None,
        *,
        verification: Verification | None = None,
    ) -> None:
        self.store = store
        self._own: RuntimeImages = _StoredImages(store, registries)
        self._clock = clock
        self._lookup = lookup
        self._has_come = pulled
        records, verification = store.root / "pulls", verification or Verification()
        self.own_records = PullRecords(records / "own", clock, verification)
        self.records_elsewhere = PullRecords(records / "runtime", clock, verification)
        self._looked_back = set[PullRecords]()
        self._attempts: dict[tuple[str, str], _Attempt] = {}
        self._running: dict[str, asyncio.Task[Image]] = {}

    async def close(self) -> None:
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    def forget(self, uid: str) -> None:
        """The pod is gone."""
        self._attempts = {key: one for key, one in self._attempts.items() if key[0] != uid}

    async def image_for(
        self,
        pod: Object,
        container: Object,
        tell: Tell,
        wake: Callable[[], None],
        elsewhere: RuntimeImages | None = None,
    ) -> Image | None:
        """None while it is being pulled; `wake` is called when that has ended. `elsewhere`: where the pod's runtime has
        its images, if not in the store. Raises RuntimeFailure, whose reason is the container's."""
        images = elsewhere or self._own
        text = container.get("image", "")
        try:
            reference = Reference.parse(text)
        except InvalidReference as error:
            message = f'Failed to apply default image tag "{text}": {error}'
            tell("Warning", "InspectFailed", message)
            raise RuntimeFailure("InvalidImageName", message) from error
        policy = container.get("imagePullPolicy") or ("Always" if reference.tag == "latest" else "IfNotPresent")
        known = self._attempts.get((meta.uid(pod), text))
        if known is not None and known.task is not None:
            return self._pulled(pod, text, reference, tell, wake, images)
        records = self.own_records if elsewhere is None else self.records_elsewhere
        await self._look_back(records, images)
        found = await images.find(text)
        if found is not None and not await self._aside(records.allows, found.id, reference, self._who(pod, reference)):
            found = None  # to this pod it is not there
        if found is not None and policy != "Always":
            tell(
                "Normal",
                "Pulled",
                f'Container image "{text}" already present on machine and can be accessed by the pod',
            )
            return found
        if policy == "Never":
            message = f'Container image "{text}" is not present with pull policy of Never'
            tell("Warning", "ErrImageNeverPull", message)
            raise RuntimeFailure("ErrImageNeverPull", message)
        return self._pulled(pod, text, reference, tell, wake, images)

    async def _look_back(self, records: PullRecords, images: RuntimeImages) -> None:
        """At what a kubelet that was killed has been pulling. Raises RuntimeFailure."""
        if records not in self._looked_back:
            for name in await self._aside(records.interrupted):
                found = await images.find(name)
                await self._aside(records.give_up, name, found.id if found is not None else "")
            self._looked_back.add(records)

    async def _aside(self, work: Callable[..., _T], *arguments: Any) -> _T:
        """What waits for the disk."""
        async with self._clock.outside(math.inf):
            return await asyncio.to_thread(work, *arguments)

    def _pulled(
        self,
        pod: Object,
        text: str,
        reference: Reference,
        tell: Tell,
        wake: Callable[[], None],
        images: RuntimeImages,
    ) -> Image | None:
        key = (meta.uid(pod), text)
        attempt = self._attempts.setdefault(key, _Attempt())
        now = self._clock.monotonic()
        if attempt.task is None:
            if now < attempt.retry_at:
                tell("Normal", "BackOff", f'Back-off pulling image "{text}"')
                message = f'Back-off pulling image "{text}": ErrImagePull: {attempt.error}'
                raise RuntimeFailure("ImagePullBackOff", message)
            tell("Normal", "Pulling", f'Pulling image "{text}"')
            attempt.task, attempt.started = self._start(pod, reference, images), now
            attempt.task.add_done_callback(lambda _: wake())
        if not attempt.task.done():
            return None
        task, attempt.task = attempt.task, None
        if task.cancelled():
            return None
        problem = task.exception()
        if problem is None:
            del self._attempts[key]
            took = _seconds(now - attempt.started)
            image, size = task.result(), task.result().size
            self._has_come(now - attempt.started, size)
            told = f"({took} including waiting). Image size: {size} bytes."
            tell("Normal", "Pulled", f'Successfully pulled image "{text}" in {took} {told}')
            return image
        attempt.error = str(problem) if isinstance(problem, PullError) else repr(problem)
        attempt.seconds = min(attempt.seconds * 2, _LONGEST_SECONDS) if attempt.seconds else _FIRST_SECONDS
        attempt.retry_at = now + attempt.seconds
        tell("Warning", "Failed", f'Failed to pull image "{text}": {attempt.error}')
        raise RuntimeFailure("ErrImagePull", attempt.error)

    def _start(self, pod: Object, reference: Reference, images: RuntimeImages) -> asyncio.Task[Image]:
        """One for all who want the same image with the same credentials."""
        names = _secret_names(pod)
        key = "\n".join([str(id(images)), str(reference), meta.namespace(pod), *sorted(names)])
        running = self._running.get(key)
        if running is None:
            work = self._recorded(reference, self._who(pod, reference), images)
            running = self._running[key] = asyncio.create_task(work, name=f"kubelet pull {reference}")
            running.add_done_callback(lambda _: self._running.pop(key, None))
        return running

    def _who(self, pod: Object, reference: Reference) -> Sequence[Credentials]:
        """Whose credentials the pod has."""
        namespace = meta.namespace(pod)
        found = [self._lookup("secrets", namespace, name) for name in _secret_names(pod)]
        return credentials.for_image(credentials.from_secrets(one for one in found if one is not None), reference)

    async def _recorded(self, reference: Reference, known: Sequence[Credentials], images: RuntimeImages) -> Image:
        """Raises PullError, OSError."""
        records = self.own_records if images is self._own else self.records_elsewhere
        used: list[Credentials | None] = []
        with await self._aside(records.begin, reference) as mark:
            try:
                image = await images.pull(reference, known, used.append)
            except asyncio.CancelledError:  # it may have come all the same
                raise
            except BaseException:
                mark.remove()
                raise
            # Where that fails, the mark stays: an image of which nothing is known is for everybody.
            await self._aside(records.note, image.id, reference, used[-1] if used else None)
            mark.remove()
            return image


def _secret_names(pod: Object) -> list[str]:
    return [one.get("name", "") for one in pod["spec"].get("imagePullSecrets") or []]


def _seconds(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms" if seconds < 1 else f"{seconds:.3f}s"
