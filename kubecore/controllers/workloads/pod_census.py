"""How many pods a controller has in which state, counted as they change: a set of ten thousand pods is looked at again
for each few of them that come, run or go, and going through all of them each time took a tenth of its roll-out.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.client.informer import SharedInformer
from kubecore.controllers import pods


class State(IntEnum):
    """Of a pod, to the set that it belongs to."""

    UNREADY = 0
    READY = 1
    LEAVING = 2
    """It is being deleted, and has not ended yet."""
    OVER = 3


class _Group(NamedTuple):
    """Pods that count alike."""

    owner: str
    labels: tuple[tuple[str, str], ...]
    state: State


class Tally(NamedTuple):
    """What a set reports of its pods. Active ones have neither finished nor are they being deleted."""

    active: int
    ready: int
    labelled: int
    """Of the active ones, those with all labels of the template."""
    leaving: int


class Census:
    """Counts the pods of an informer whose controllers are of one kind."""

    def __init__(self, informer: SharedInformer, kind: str) -> None:
        self._kind = kind
        self._known: dict[str, _Group] = {}
        """By uid: what is told of a pod that is gone may differ from what it was counted as."""
        self._counts: dict[str, dict[_Group, int]] = {}
        """By the controller's uid."""
        informer.add_handler(self._seen, self._changed, self._gone)

    def of(self, owner: str) -> Iterator[tuple[dict[str, str], State, int]]:
        """Labels and state of pods that this uid controls, and of how many."""
        for group, count in self._counts.get(owner, {}).items():
            yield dict(group.labels), group.state, count

    def _seen(self, pod: Object) -> None:
        self._put(meta.uid(pod), self._group(pod))

    def _changed(self, old: Object, new: Object) -> None:
        uid, before, now = meta.uid(new), old["metadata"], new["metadata"]
        known = self._known.get(uid)
        if known is None or not _is_whose_it_was(before, now):
            self._put(uid, self._group(new))
            return
        # What stayed as it was is the very same, and most changes are of a status.
        state = _state(new)
        if state is not known.state:
            self._put(uid, _Group(known.owner, known.labels, state))

    def _put(self, uid: str, group: _Group | None) -> None:
        known = self._known.get(uid)
        if group == known:
            return
        if known is not None:
            self._take(known)
        if group is None:
            self._known.pop(uid, None)
            return
        counts = self._counts.setdefault(group.owner, {})
        counts[group] = counts.get(group, 0) + 1
        self._known[uid] = group

    def _gone(self, pod: Object) -> None:
        known = self._known.pop(meta.uid(pod), None)
        if known is not None:
            self._take(known)

    def _take(self, group: _Group) -> None:
        counts = self._counts[group.owner]
        counts[group] -= 1
        if not counts[group]:
            del counts[group]
            if not counts:
                del self._counts[group.owner]

    def _group(self, pod: Object) -> _Group | None:
        reference = meta.controller_of(pod)
        if reference is None or reference["kind"] != self._kind:
            return None
        return _Group(reference["uid"], tuple(meta.labels(pod).items()), _state(pod))


def _state(pod: Object) -> State:
    if pods.is_finished(pod):
        return State.OVER
    if "deletionTimestamp" in pod["metadata"] and meta.is_deleting(pod):
        return State.LEAVING
    return State.READY if pods.is_ready(pod) else State.UNREADY


def _is_whose_it_was(before: Object, now: Object) -> bool:
    return before.get("labels") is now.get("labels") and before.get("ownerReferences") is now.get("ownerReferences")
