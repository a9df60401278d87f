"""NamespaceLifecycle: nothing is created in a namespace that is not there or is going, and some namespaces stay.

After upstream k8s.io/apiserver pkg/admission/plugin/namespace/lifecycle. The watch cache is never behind, so the
upstream's look at the live object and its grace for slow caches are not needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubecore.api import errors
from kubecore.api.errors import Cause
from kubecore.api.quoting import quoted
from kubecore.apiserver.admission.chain import CREATE, DELETE, Plugin
from kubecore.apiserver.registry.codec import loads
from kubecore.apiserver.registry.validation.names import path_segment

if TYPE_CHECKING:
    from kubecore.apiserver.registry.strategy import RequestContext
    from kubecore.apiserver.storage.cacher import Cacher

JSON = dict[str, Any]

IMMORTAL = ("default", "kube-public", "kube-system")
_KNOWN = 4096


class NamespaceLifecycle(Plugin):
    name = "NamespaceLifecycle"

    def __init__(self, cacher: Cacher) -> None:
        cached = cacher.cached("namespaces")
        assert cached is not None
        self._get = cacher.native.get
        self._number = cached.number
        # Namespaces seen active, with the revision that was true of: saves decoding them for each create.
        self._active: dict[str, int] = {}

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        return operation == CREATE or (operation == DELETE and resource_key == "namespaces" and not subresource)

    def mutate(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> bool:
        """Runs among the mutating plugins, before anything is looked up for a namespace that is not there."""
        if ctx.operation == DELETE:
            if ctx.name in IMMORTAL:
                raise errors.forbidden("", "namespaces", ctx.name, "this namespace may not be deleted")
            return False
        namespace = ctx.namespace
        if not namespace or ctx.resource_key == "namespaces":
            return False
        found = self._get(self._number, "", namespace)
        if found is None:
            if wrong := path_segment(namespace):
                # Upstream's client looks for it, and refuses to ask.
                raise errors.internal_error(f"invalid resource name {quoted(namespace)}: [{' '.join(wrong)}]")
            raise errors.not_found("", "namespaces", namespace)
        if self._active.get(namespace) != found[0]:
            self._look(ctx, namespace, *found)
        return False

    def _look(self, ctx: RequestContext, namespace: str, revision: int, value: bytes) -> None:
        decoded = loads(value)
        since = decoded["metadata"].get("deletionTimestamp")
        if since or (decoded.get("status") or {}).get("phase") == "Terminating":
            raise terminating(ctx, namespace)
        if len(self._active) >= _KNOWN:
            self._active.clear()
        self._active[namespace] = revision


def terminating(ctx: RequestContext, namespace: str) -> errors.StatusError:
    """The 403 for a create in a namespace that is being deleted."""
    plural, _, group = ctx.resource_key.partition(".")
    detail = f"unable to create new content in namespace {namespace} because it is being terminated"
    cause = Cause("NamespaceTerminating", f"namespace {namespace} is being terminated", "metadata.namespace")
    return errors.forbidden(group, plural, ctx.called, detail, causes=[cause])
