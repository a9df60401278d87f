"""Which pods the responder spares the rounds of their search path, as CoreDNS' plugin autopath does."""

from __future__ import annotations

from typing import Any

from kubecore._native import DnsServer
from kubecore.api import meta
from kubecore.client.informer import SharedInformer

Object = dict[str, Any]


class SearchingPods:
    """Tells the server the first domain of the search path of every address that is a pod's alone.

    Pods in their host's network share its addresses, so nothing is known of who asks from there; and one that chose a
    dnsPolicy other than ClusterFirst has a search path of its own.
    """

    def __init__(self, pods: SharedInformer, server: DnsServer, domain: str) -> None:
        self._pods = pods
        self._server = server
        self._domain = domain
        self._whose: dict[str, str] = {}
        pods.add_handler(
            on_add=lambda new: self._apply({}, new),
            on_update=self._apply,
            on_delete=lambda old: self._apply(old, {}),
        )

    async def wait_synced(self) -> None:
        await self._pods.wait_synced()

    def _apply(self, old: Object, new: Object) -> None:
        before, now = _addresses(old), _addresses(new)
        if before == now:
            return
        pod = new or old
        uid, first = meta.uid(pod), f"{meta.namespace(pod)}.svc.{self._domain}"
        changes: list[tuple[str, str | None]] = []
        for address in before:
            # another pod may have the address by now
            if address not in now and self._whose.get(address) == uid:
                del self._whose[address]
                changes.append((address, None))
        for address in now:
            self._whose[address] = uid
            changes.append((address, first))
        self._server.set_clients(changes)


def _addresses(pod: Object) -> list[str]:
    """Those that the pod has now; a finished pod has given them back."""
    if not pod:
        return []
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    if spec.get("hostNetwork") or spec.get("dnsPolicy", "ClusterFirst") != "ClusterFirst":
        return []
    if status.get("phase") in ("Succeeded", "Failed"):
        return []
    return [one["ip"] for one in status.get("podIPs") or () if one.get("ip")]
