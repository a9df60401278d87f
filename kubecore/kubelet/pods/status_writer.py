"""Writes a pod's status to the API, only when it differs from what the API has."""

from __future__ import annotations

from typing import Any

from kubecore.api import meta
from kubecore.api.errors import StatusError
from kubecore.client.client import Client
from kubecore.kubelet.pods.status import PASSING

Object = dict[str, Any]


class StatusWriter:
    """Keeps the newest status known of one pod: the answer to our own patch is newer than the informer's copy."""

    def __init__(self, client: Client, pod: Object) -> None:
        self._client = client
        self._newest = pod
        self._written: Object | None = None

    def seen(self, pod: Object) -> bool:
        """Whether somebody else has changed what was written last, which is to be written again."""
        if _version(pod) < _version(self._newest):
            return False
        self._newest = pod
        if self._written is None or not status_patch(pod.get("status") or {}, self._written):
            return False
        self._written = None
        return True

    def forget(self, pod: Object) -> None:
        """Whatever was written: the API has this one now."""
        self._newest, self._written = pod, None

    def current(self, pod: Object) -> Object:
        """The pod with the newest status known."""
        return {**pod, "status": self._newest.get("status") or {}}

    async def write(self, status: Object) -> bool:
        """False if there was nothing to write, or nowhere, since the pod is gone. StatusError and OSError as the client
        raises them."""
        if status == self._written:
            return False
        known = self._newest.get("status") or {}
        patch = status_patch(known, status)
        if not patch:
            return False
        uid = meta.uid(self._newest)
        body = {"metadata": {"uid": uid}, "status": patch}
        self._written = status  # a watch may tell of it before the answer comes
        try:
            answer = await self._client.patch(
                "pods", meta.name(self._newest), body, meta.namespace(self._newest), subresource="status"
            )
        except (StatusError, OSError) as error:
            self._written = None
            if isinstance(error, StatusError) and error.code == 404:
                return False
            raise
        if _version(answer) >= _version(self._newest):
            self._newest, self._written = answer, status
        return True


def _version(pod: Object) -> int:
    text = meta.resource_version(pod)
    return int(text) if text.isdigit() else 0


# Lists that a strategic merge would merge by key although they must be replaced.
_REPLACED = ("podIPs", "hostIPs")


def status_patch(known: Object, wanted: Object) -> Object:
    """The strategic merge patch from one status to the other, empty when they say the same.

    Conditions of other writers stay; what we no longer say goes.
    """
    patch: Object = {}
    for key, value in wanted.items():
        if key == "conditions":
            changed = _changed_conditions(known.get("conditions") or [], value)
            if changed:
                patch[key] = changed
        elif known.get(key) != value:
            patch[key] = [{"$patch": "replace"}, *value] if key in _REPLACED and known.get(key) else value
    for key in ("reason", "message"):
        if key in known and key not in wanted:
            patch[key] = None
    return patch


def _changed_conditions(known: list[Object], wanted: list[Object]) -> list[Object]:
    held = {one.get("type"): one for one in known}
    changed = []
    for condition in wanted:
        old = held.get(condition["type"], {})
        if any(old.get(key) != value for key, value in condition.items()):
            changed.append({key: value for key, value in condition.items() if value is not None or key in old})
    told = {one["type"] for one in wanted}
    return changed + [{"type": kind, "$patch": "delete"} for kind in PASSING if kind in held and kind not in told]
