"""Images that a container runtime keeps: looked for, pulled and removed by its image service."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubecore.images.credentials import Credentials
from kubecore.images.references import Reference
from kubecore.images.registries import PullError
from kubecore.images.store import Image
from kubecore.kubelet.node.image_gc import ListedImage, Space, disk_space
from kubecore.kubelet.node.images import ImageDisk, KnownImage
from kubecore.kubelet.runtime.cri.connection import PULL_SECONDS, Connection
from kubecore.kubelet.runtime.interface import RuntimeFailure, Written

_GC_REASON = "ImageGCFailed"


@dataclass(frozen=True)
class KeptImage(Image):
    """`config` says no more than as whom it runs; how large it is only the runtime knows."""

    bytes: int = 0

    @property
    def size(self) -> int:
        return self.bytes


class CriImages:
    """Implements `interface.RuntimeImages`."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        """To be set before anything is asked."""

    async def _ask(self, name: str, **fields: Any) -> Any:
        if self.connection is None:
            raise RuntimeFailure("ImageInspectError", "the container runtime has not been connected to")
        return await self.connection.ask_images(name, **fields)

    def _spec(self, name: str) -> Any:
        if self.connection is None:
            raise RuntimeFailure("ImageInspectError", "the container runtime has not been connected to")
        return self.connection.api.ImageSpec(image=name)

    async def find(self, text: str) -> Image | None:
        try:
            name = str(Reference.parse(text)) if not text.startswith("sha256:") else text
            answer = await self._ask("ImageStatus", reason="ImageInspectError", image=self._spec(name))
        except TimeoutError as error:
            raise RuntimeFailure("ImageInspectError", str(error)) from error
        return _image(answer.image) if answer.HasField("image") else None

    async def pull(
        self, reference: Reference, known: Sequence[Credentials], used: Callable[[Credentials | None], None]
    ) -> Image:
        failure: Exception | None = None
        for one in [*known, None]:
            try:
                answer = await self._pull(reference, one)
                found = await self.find(answer.image_ref)
            except (RuntimeFailure, TimeoutError) as error:
                failure = failure or error
                continue
            if found is not None:
                used(one)
                return found
        raise PullError(str(failure or f"image {reference} is not there after it was pulled")) from failure

    async def _pull(self, reference: Reference, who: Credentials | None) -> Any:
        fields: dict[str, Any] = {"image": self._spec(str(reference))}
        if who is not None and self.connection is not None:
            names = {"username": who.username, "password": who.password, "identity_token": who.identity_token}
            fields["auth"] = self.connection.api.AuthConfig(**names)
        return await self._ask("PullImage", reason="ErrImagePull", seconds=PULL_SECONDS, **fields)

    async def all(self) -> Sequence[Any]:
        """As the runtime tells them (message `Image`)."""
        return (await self._ask("ListImages", reason=_GC_REASON)).images  # type: ignore[no-any-return]

    async def known(self) -> Sequence[KnownImage]:
        """Those that have a name or a digest."""
        told = [(tuple(one.repo_digests), tuple(one.repo_tags), one.size) for one in await self.all()]
        return [KnownImage(*one) for one in told if one[0] or one[1]]

    async def remove(self, image_id: str) -> None:
        await self._ask("RemoveImage", reason=_GC_REASON, image=self._spec(image_id))

    async def disks(self) -> Sequence[Path]:
        """Where they are kept."""
        answer = await self._ask("ImageFsInfo", reason=_GC_REASON)
        return [Path(one.fs_id.mountpoint) for one in answer.image_filesystems if one.fs_id.mountpoint]

    async def disk(self) -> ImageDisk | None:
        """With what they take there."""
        answer = await self._ask("ImageFsInfo", reason=_GC_REASON)
        for one in answer.image_filesystems:
            if one.fs_id.mountpoint:
                return ImageDisk(Path(one.fs_id.mountpoint), Written(one.used_bytes.value, one.inodes_used.value))
        return None


class CollectedImages:
    """Implements `image_gc.Images`. `in_use()`: what images containers have, by id or name, whoever's they are."""

    def __init__(self, kept: CriImages, in_use: Callable[[], Awaitable[set[str]]]) -> None:
        self._kept = kept
        self._in_use = in_use

    async def images(self) -> Sequence[ListedImage]:
        used = await self._in_use()
        return [_listed(one, used) for one in await self._kept.all()]

    async def remove(self, image_id: str) -> None:
        await self._kept.remove(image_id)

    async def space(self) -> Space:
        """On the fullest one."""
        spaces = [await asyncio.to_thread(disk_space, root) for root in await self._kept.disks()]
        return max(spaces, key=lambda one: one.used_percent, default=Space(0, 0))


def _listed(told: Any, used: set[str]) -> ListedImage:
    names = [*told.repo_tags, *told.repo_digests, told.id]
    return ListedImage(told.id, names[0], not used.isdisjoint(names), told.pinned)


def _image(told: Any) -> Image:
    user = told.username or (str(told.uid.value) if told.HasField("uid") else "")
    config = {"config": {"User": user}} if user else {}
    names = tuple(told.repo_tags)
    return KeptImage(told.id, config, (), names, tuple(told.repo_digests), bytes=told.size)
