"""Subresources of pods that are no updates: binding and eviction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from kubecore.api import errors, meta
from kubecore.api.errors import Cause, FieldError
from kubecore.api.selectors import Selector
from kubecore.apiserver.admission.topology_labels import topology_labels
from kubecore.apiserver.handlers import negotiation
from kubecore.apiserver.handlers.request import Request, Response, warning_headers
from kubecore.apiserver.registry import deletion
from kubecore.apiserver.registry.codec import loads
from kubecore.apiserver.registry.options import write_options

if TYPE_CHECKING:
    from kubecore._native import UserInfo
    from kubecore.apiserver.handlers.served import Served
    from kubecore.apiserver.handlers.writing import Writing
    from kubecore.apiserver.registry.registry import Registry
    from kubecore.apiserver.registry.store import Store
    from kubecore.apiserver.registry.strategy import RequestContext

JSON = dict[str, Any]

SUCCESS = orjson.dumps({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})


class PodSubresources:
    def __init__(self, registry: Registry, writing: Writing) -> None:
        self._registry = registry
        self._writing = writing

    def _pods(self) -> Store:
        store = self._registry.store("pods")
        assert store is not None, "pods are always served"
        return store

    # --- binding

    async def bind(self, request: Request, user: UserInfo, served: Served) -> Response:
        """POST pods/NAME/binding and bindings: puts a pod onto a node, once."""
        form = negotiation.form_for(request.accept, tables=False)
        options = write_options("create", request.query)
        ctx = self._writing.context(request, user, served, options)
        binding = self._writing.decode(ctx, "v1/Binding", request.body, request.content_type)
        metadata = binding.get("metadata") or {}
        given = metadata.get("name") or ""
        if request.name and given != request.name:
            raise errors.bad_request("name in URL does not match name in Binding object")
        _check_namespace(metadata, ctx)
        ctx.resource_key, ctx.subresource = "pods", "binding"
        ctx.name = request.name or given
        await self._writing.admit(ctx, served, binding, kind="v1/Binding", subresource=request.subresource)
        metadata = binding.get("metadata") or {}
        node = _target(binding)
        # What PodTopologyLabels admits, and the store copies.
        binding["labels"] = {**(metadata.get("labels") or {}), **topology_labels(self._registry.cacher, node)}
        store = self._pods()

        def assign(pod: JSON) -> None:
            _assign(store, ctx.name, pod, binding, node, ctx.now)

        await store.change(ctx, assign)
        return _success(form, ctx)

    # --- eviction

    async def evict(self, request: Request, user: UserInfo, served: Served) -> Response:
        """POST pods/NAME/eviction: a delete that respects disruption budgets (upstream registry/core/pod/storage)."""
        form = negotiation.form_for(request.accept, tables=False)
        ctx = self._writing.context(request, user, served, write_options("create", request.query))
        eviction = self._writing.decode(ctx, "policy/v1/Eviction", request.body, request.content_type)
        metadata = eviction.get("metadata") or {}
        if metadata.get("name") != request.name:
            raise errors.bad_request("name in URL does not match name in Eviction object")
        _check_namespace(metadata, ctx)
        await self._writing.admit(ctx, served, eviction, kind="policy/v1/Eviction", subresource="eviction")
        raw = eviction.get("deleteOptions")
        options = deletion.delete_options(orjson.dumps(raw) if raw else b"", {})
        store = self._pods()
        pod = loads(store.get(request.namespace, request.name).value)
        if not _ignores_budget(pod):
            await self._spend_budget(ctx, pod, dry_run=ctx.dry_run or options.dry_run)
        ctx.resource_key, ctx.subresource, ctx.verb = "pods", "", "delete"
        # Asked about was the eviction.
        ctx.exempt = True
        await deletion.delete(store, ctx, options)
        return _success(form, ctx)

    async def _spend_budget(self, ctx: Any, pod: JSON, *, dry_run: bool) -> None:
        labels = meta.labels(pod)
        budgets = [
            budget
            for budget in self._registry.list("poddisruptionbudgets.policy", ctx.namespace)
            if Selector.from_label_selector((budget.get("spec") or {}).get("selector")).matches(labels)
        ]
        if not budgets:
            return
        if len(budgets) > 1:
            raise errors.internal_error(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
            )
        name = meta.name(budgets[0])
        store = self._registry.store("poddisruptionbudgets.policy")
        assert store is not None
        own = self._budget_context(ctx, name, dry_run)

        def spend(budget: JSON) -> bool:
            return _spend(budget, pod, ctx.now)

        await store.change(own, spend)

    def _budget_context(self, ctx: Any, name: str, dry_run: bool) -> Any:
        from dataclasses import replace

        return replace(
            ctx, resource_key="poddisruptionbudgets.policy", subresource="status", name=name, dry_run=dry_run
        )


def _success(form: negotiation.Form, ctx: RequestContext) -> Response:
    body, media = negotiation.encode(form, SUCCESS)
    return Response(201, body, media, warning_headers(ctx.warnings))


def _check_namespace(metadata: JSON, ctx: RequestContext) -> None:
    """Raises 400 for an object of another namespace than the path's."""
    if metadata.get("namespace") not in (None, "", ctx.namespace):
        raise errors.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )


def _target(binding: JSON) -> str:
    """The node. What is wrong with the target is a plain error upstream, which is a 500 of no reason."""
    target = binding.get("target") or {}
    causes: list[Cause] = []
    if target.get("kind") not in (None, "", "Node"):
        causes.append(FieldError.not_supported("target.kind", target["kind"], ["Node", "<empty>"]))
    if not target.get("name"):
        causes.append(FieldError.required("target.name"))
    if causes:
        raise errors.plain_error(causes)
    return str(target["name"])


def _assign(store: Store, name: str, pod: JSON, binding: JSON, node: str, now: str) -> None:
    metadata, spec = pod["metadata"], pod["spec"]
    given = binding.get("metadata") or {}
    uid = given.get("uid")

    def refuse(detail: str) -> errors.StatusError:
        return errors.conflict("", "pods/binding", name, detail)

    if uid and uid != metadata.get("uid"):
        detail = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {metadata.get('uid')}"
        raise errors.conflict("", "pods", name, detail)
    if metadata.get("deletionTimestamp"):
        raise refuse(f"pod {name} is being deleted, cannot be assigned to a host")
    if spec.get("nodeName"):
        raise refuse(f'pod {name} is already assigned to node "{spec["nodeName"]}"')
    if spec.get("schedulingGates"):
        raise refuse(f"pod {name} has non-empty .spec.schedulingGates")
    spec["nodeName"] = node
    if binding["labels"]:
        metadata["labels"] = {**(metadata.get("labels") or {}), **binding["labels"]}
    if given.get("annotations"):
        metadata["annotations"] = {**(metadata.get("annotations") or {}), **given["annotations"]}
    status = pod.setdefault("status", {})
    # the node it has says more than the one it was to get
    status.pop("nominatedNodeName", None)
    conditions = [one for one in status.get("conditions") or [] if one.get("type") != "PodScheduled"]
    scheduled = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now}
    status["conditions"] = [*conditions, scheduled]


def _ignores_budget(pod: JSON) -> bool:
    """Pods that do no work are no disruption."""
    phase = (pod.get("status") or {}).get("phase")
    return phase in ("Succeeded", "Failed", "Pending", None) or meta.is_deleting(pod)


def _ready(pod: JSON) -> bool:
    condition = meta.condition(pod, "Ready")
    return condition is not None and condition.get("status") == "True"


def _spend(budget: JSON, pod: JSON, now: str) -> bool:
    """Takes one disruption from the budget; False when the pod needs none. Raises 429."""
    status = budget.setdefault("status", {})
    healthy, desired = status.get("currentHealthy") or 0, status.get("desiredHealthy") or 0
    if not _ready(pod):
        policy = (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy") or "IfHealthyBudget"
        if policy == "AlwaysAllow" or (healthy >= desired and desired > 0):
            return False
    name = meta.name(budget)
    refusal = "Cannot evict pod as it would violate the pod's disruption budget."
    if (status.get("observedGeneration") or 0) < meta.generation(budget):
        detail = f"The disruption budget {name} is still being processed by the server."
        raise errors.too_many_requests(refusal, 10, causes=[Cause("DisruptionBudget", detail)])
    allowed = status.get("disruptionsAllowed") or 0
    if allowed <= 0:
        detail = f"The disruption budget {name} needs {desired} healthy pods and has {healthy} currently"
        raise errors.too_many_requests(refusal, 0, causes=[Cause("DisruptionBudget", detail)])
    status["disruptionsAllowed"] = allowed - 1
    status["disruptedPods"] = {**(status.get("disruptedPods") or {}), meta.name(pod): now}
    return True
