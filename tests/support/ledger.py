"""What clients were told of their writes, and what must therefore be found after a crash."""

from __future__ import annotations

import asyncio
from typing import Any

Object = dict[str, Any]
Content = dict[str, str]

_BYTES_AT_MOST = 20_000


def content(marker: str, size: int) -> Content:
    """Annotations that show by themselves whether they are whole: `marker`, written again up to `size` bytes."""
    return {"marker": marker, "body": (f"{marker} " * (min(size, _BYTES_AT_MOST) // (len(marker) + 1) + 1))}


def held(obj: Object) -> Content:
    """The content of an object, asserted to be whole."""
    found: Content = obj["metadata"]["annotations"]
    assert found == content(found["marker"], len(found["body"]) - 1), f"a half object: {obj}"
    return found


def bare(obj: Object) -> Object:
    """An object without what lists leave out of their items."""
    return {key: value for key, value in obj.items() if key not in ("apiVersion", "kind")}


def revision(obj: Object) -> int:
    return int(obj["metadata"]["resourceVersion"])


def brief(obj: Object | None) -> str:
    """An object in few words."""
    if obj is None:
        return "nothing"
    metadata = obj["metadata"]
    return f"revision {metadata['resourceVersion']} ({metadata['annotations'].get('marker')}, uid {metadata['uid']})"


class Ledger:
    """Per path: the object as the last answer had it, and the write that was sent after it and never answered.

    Each path belongs to one client that waits for its answers, so there is at most one such write.
    """

    def __init__(self) -> None:
        self._known: dict[str, Object] = {}
        self._attempts: dict[str, Content | None] = {}
        self._answered = asyncio.Event()
        self._wanted = 0
        self.answers = 0
        self.newest = 0

    def known(self, path: str) -> Object | None:
        return self._known.get(path)

    def paths(self, prefix: str) -> list[str]:
        return [path for path in self._known if path.startswith(prefix)]

    def attempt(self, path: str, wanted: Content | None) -> None:
        """A write is about to be sent; None: a deletion."""
        assert path not in self._attempts, f"two writes of {path} at once"
        self._attempts[path] = wanted

    def answer(self, path: str, obj: Object | None) -> None:
        """The write was answered with `obj`, None after a deletion."""
        wanted = self._attempts.pop(path)
        if obj is None:
            assert wanted is None
            self._known.pop(path, None)
        else:
            obj = bare(obj)
            assert held(obj) == wanted
            assert revision(obj) > (revision(self._known[path]) if path in self._known else 0)
            self._known[path] = obj
            self.newest = max(self.newest, revision(obj))
        self.answers += 1
        if self.answers >= self._wanted:
            self._answered.set()

    async def wait_for(self, answers: int) -> None:
        """Until that many more writes were answered."""
        self._wanted = self.answers + answers
        self._answered.clear()
        await self._answered.wait()

    def settle(self, found: dict[str, Object]) -> None:
        """Assert that `found`, all there is after a crash, is what was answered, or that and an unanswered write.

        From then on `found` is what is known."""
        for path in found.keys() | self._known.keys() | self._attempts.keys():
            now, before = found.get(path), self._known.get(path)
            if now == before:
                continue
            told = f"{path}: answered {brief(before)}, found {brief(now)}"
            assert path in self._attempts, f"{told}, nothing was tried since"
            wanted = self._attempts[path]
            if now is None:
                assert wanted is None, f"{told}, tried {wanted}"
                continue
            assert held(now) == wanted, f"{told}, tried {wanted}"
            assert revision(now) > (revision(before) if before else 0)
        self._known = dict(found)
        self._attempts.clear()
        self.newest = max([self.newest, *map(revision, found.values())])
