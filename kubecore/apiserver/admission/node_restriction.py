"""NodeRestriction: a kubelet writes its own node and its own pods only.

After upstream plugin/pkg/admission/noderestriction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubecore.api import errors, meta
from kubecore.apiserver.admission.chain import CREATE, DELETE, UPDATE, Plugin
from kubecore.apiserver.authorization.node import node_name, references

if TYPE_CHECKING:
    from kubecore.apiserver.registry.strategy import RequestContext

JSON = dict[str, Any]

_MIRROR = "kubernetes.io/config.mirror"
_KEYS = ("pods", "nodes", "leases.coordination.k8s.io", "csinodes.storage.k8s.io")
_PROTECTED = "node-restriction.kubernetes.io"


class NodeRestriction(Plugin):
    name = "NodeRestriction"

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        return resource_key in _KEYS and operation in (CREATE, UPDATE, DELETE)

    def validate(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> None:
        node = node_name(ctx.user)  # type: ignore[arg-type]
        if not node:
            return
        if ctx.resource_key == "pods":
            self._pod(ctx, node, obj, old)
        elif ctx.resource_key == "nodes":
            self._node(ctx, node, obj, old)
        elif ctx.name != node:
            raise _refuse(ctx, f"can only access {ctx.resource_key.partition('.')[0]} with the same name as the node")

    def _pod(self, ctx: RequestContext, node: str, obj: JSON | None, old: JSON | None) -> None:
        if ctx.operation == CREATE:
            assert obj is not None
            if _MIRROR not in meta.annotations(obj):
                raise _refuse(
                    ctx, f"pod does not have {_MIRROR!r} annotation, node {node!r} can only create mirror pods"
                )
            if (obj.get("spec") or {}).get("nodeName") != node:
                raise _refuse(ctx, f"node {node!r} can only create pods with spec.nodeName set to itself")
            if any(references(obj, resource) for resource in ("secrets", "configmaps", "persistentvolumeclaims")):
                raise _refuse(ctx, f"node {node!r} can not create pods that reference secrets, configmaps or claims")
            return
        current = old or obj or {}
        if (current.get("spec") or {}).get("nodeName") != node:
            verb = "delete" if ctx.operation == DELETE else "update status for"
            raise _refuse(ctx, f"node {node!r} can only {verb} pods with spec.nodeName set to itself")
        if ctx.operation == UPDATE and ctx.subresource != "status":
            raise _refuse(ctx, f"node {node!r} can only update pod status")
        if ctx.operation == UPDATE and obj is not None and meta.labels(obj) != meta.labels(current):
            raise _refuse(ctx, f"node {node!r} cannot update labels through pod status")

    def _node(self, ctx: RequestContext, node: str, obj: JSON | None, old: JSON | None) -> None:
        if ctx.operation == DELETE:
            raise _refuse(ctx, f"node {node!r} is not allowed to delete nodes")
        if ctx.name != node:
            raise _refuse(ctx, f"node {node!r} is not allowed to modify node {ctx.name!r}")
        assert obj is not None
        before = meta.labels(old) if old else {}
        changed = [key for key, value in meta.labels(obj).items() if before.get(key) != value]
        forbidden = [key for key in changed if key.partition("/")[0].endswith(_PROTECTED)]
        if forbidden:
            raise _refuse(ctx, f"is not allowed to set the following labels: {', '.join(forbidden)}")
        if old and (obj.get("spec") or {}).get("taints") != (old.get("spec") or {}).get("taints"):
            raise _refuse(ctx, f"node {node!r} is not allowed to modify taints")


def _refuse(ctx: RequestContext, detail: str) -> errors.StatusError:
    plural, _, group = ctx.resource_key.partition(".")
    return errors.forbidden(group, plural, ctx.name, detail.replace("'", '"'))
