"""Subresources of pods that are no updates: binding and eviction."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import orjson

from kubecore.api import errors, meta
from kubecore.api.errors import Cause, FieldError, StatusError
from kubecore.api.selectors import Selector
from kubecore.apiserver.admission.namespace_lifecycle import NamespaceLifecycle
from kubecore.apiserver.admission.topology_labels import topology_labels
from kubecore.apiserver.authorization.attributes import Attributes
from kubecore.apiserver.handlers import negotiation
from kubecore.apiserver.handlers.failing import telling
from kubecore.apiserver.handlers.request import Request, Response, warning_headers
from kubecore.apiserver.registry import deletion, direct_writes, lifecycle
from kubecore.apiserver.registry.codec import loads
from kubecore.apiserver.registry.options import write_options
from kubecore.apiserver.registry.own_requests import MANAGER

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from kubecore._native import UserInfo
    from kubecore.api.amendment import PodName
    from kubecore.apiserver.authorization.authorizer import Authorizer
    from kubecore.apiserver.handlers.served import Served
    from kubecore.apiserver.handlers.writing import Writing
    from kubecore.apiserver.registry.options import DeleteOptions
    from kubecore.apiserver.registry.registry import Registry
    from kubecore.apiserver.registry.store import Store
    from kubecore.apiserver.registry.strategy import RequestContext
    from kubecore.apiserver.storage.interface import Stored

JSON = dict[str, Any]

SUCCESS = orjson.dumps({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})

_BREAKING = "ignoreStoreReadErrorWithClusterBreakingPotential"
_EVICTION_TRIES = 20
# Pods of a budget that were evicted and that its controller has not yet seen going.
_MOST_DISRUPTED = 2000


def _of_today(body: bytes) -> bytes:
    """An eviction as older clients post it: of policy/v1beta1, which is served no more and says the same."""
    if b"policy/v1beta1" not in body:
        return body
    try:
        sent = loads(body)
    except orjson.JSONDecodeError:
        return body
    is_old = isinstance(sent, dict) and sent.get("apiVersion") == "policy/v1beta1"
    return orjson.dumps({**sent, "apiVersion": "policy/v1"}) if is_old else body


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
        with telling(ctx.warnings):
            await self._bind(ctx, request, served, binding)
        return _success(form, ctx)

    async def _bind(self, ctx: RequestContext, request: Request, served: Served, binding: JSON) -> None:
        _check_namespace(binding.get("metadata") or {}, ctx)
        # A kubelet may be refused pods/binding, by a plugin that does not look at bindings.
        ctx.resource_key = "pods" if request.name else "bindings"
        ctx.name = request.name or meta.name(binding)

        def judge() -> None:
            if meta.name(binding) != ctx.name:
                raise errors.bad_request("name in URL does not match name in Binding object")
            _target(binding)

        kind, subresource = "v1/Binding", request.subresource
        await self._writing.admit(ctx, served, binding, kind=kind, subresource=subresource, judge=judge)
        metadata = binding.get("metadata") or {}
        node = _target(binding)
        if not ctx.name:
            raise errors.bad_request("Name parameter required.")
        # What PodTopologyLabels admits, and the store copies.
        binding["labels"] = {**(metadata.get("labels") or {}), **topology_labels(self._registry.cacher, node)}

        pods = self._pods()

        def assign(stored: bytes) -> JSON:
            pod = _ASSIGNED.decode(stored)
            lifecycle.check_uid(ctx, pods.resource, metadata, pod.metadata.uid)
            given, found = metadata.get("resourceVersion"), pod.metadata.resourceVersion
            if given and given != found:
                raise lifecycle.missed(ctx, pods.resource, "ResourceVersion", given=given, found=found)
            return _assigned(ctx.name, pod, binding, node, ctx.now)

        await direct_writes.amend(pods, ctx, assign)

    # --- eviction

    async def evict(self, request: Request, user: UserInfo, served: Served) -> Response:
        """POST pods/NAME/eviction: a delete that respects disruption budgets (upstream registry/core/pod/storage)."""
        form = negotiation.form_for(request.accept, tables=False)
        ctx = self._writing.context(request, user, served, write_options("create", request.query))
        eviction = self._writing.decode(ctx, "policy/v1/Eviction", _of_today(request.body), request.content_type)
        with telling(ctx.warnings):
            await self._asked_for(ctx, request, served, eviction)
        return _success(form, ctx)

    async def _asked_for(self, ctx: RequestContext, request: Request, served: Served, eviction: JSON) -> None:
        _check_namespace(eviction.get("metadata") or {}, ctx)

        def judge() -> None:
            if meta.name(eviction) != request.name:
                raise errors.bad_request("name in URL does not match name in Eviction object")
            if (eviction.get("deleteOptions") or {}).get(_BREAKING):
                why = "can not be set for pod eviction, try after removing the option"
                cause = FieldError.invalid(f"deleteOptions.{_BREAKING}", True, why)
                raise errors.invalid("Eviction", request.name, [cause], group="policy")
            asked, sent = ["All"] * ctx.dry_run, (eviction.get("deleteOptions") or {}).get("dryRun") or []
            if asked and sent and asked != sent:
                both = f"[{' '.join(asked)}] and [{' '.join(sent)}]"
                raise StatusError(500, "", f"Non-matching dry-run options in request and content: {both}")

        await self._writing.admit(ctx, served, eviction, kind="policy/v1/Eviction", subresource="eviction", judge=judge)
        raw = eviction.get("deleteOptions")
        options = deletion.delete_options(orjson.dumps(raw) if raw else b"", {})
        ctx.dry_run = ctx.dry_run or options.dry_run
        # Asked about was the eviction.
        ctx.resource_key, ctx.subresource, ctx.verb, ctx.exempt = "pods", "", "delete", True
        await self._evict(ctx, options)

    async def _evict(self, ctx: RequestContext, options: DeleteOptions) -> None:
        store = self._pods()
        for left in reversed(range(_EVICTION_TRIES)):
            pod = loads(store.get(ctx.namespace, ctx.name).value)
            if not _ignores_budget(pod):
                break
            try:
                # One that is about to run is gone as it is, or looked at again.
                await _take_away(store, ctx, options if _has_ended(pod) else _as_it_is(options, pod))
                return
            except StatusError as error:
                if options.resource_version or not left or not errors.is_conflict(error):
                    raise
        spared = await self._spend_budget(ctx, pod)
        if not spared:
            await _take_away(store, ctx, options)
            return
        try:
            await _take_away(store, ctx, _as_it_is(options, pod))
        except StatusError as error:
            if options.resource_version or not errors.is_conflict(error):
                raise
            raise _not_yet(spared) from None

    async def _spend_budget(self, ctx: RequestContext, pod: JSON) -> str:
        """The name of the pod's budget if evicting the pod, which is not ready, spends nothing of it. Raises 403, 429,
        500."""
        labels = meta.labels(pod)
        budgets = [
            budget
            for budget in self._registry.list("poddisruptionbudgets.policy", ctx.namespace)
            if Selector.from_label_selector((budget.get("spec") or {}).get("selector")).matches(labels)
        ]
        if not budgets:
            return ""
        if len(budgets) > 1:
            raise StatusError(
                500,
                "",
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            )
        name = meta.name(budgets[0])
        if not _ready(pod) and _spares_unready(budgets[0]):
            return name
        store = self._registry.store("poddisruptionbudgets.policy")
        assert store is not None
        own = replace(ctx, resource_key="poddisruptionbudgets.policy", subresource="status", name=name)
        await direct_writes.change(store, own, lambda budget: _spend(budget, pod, ctx.now), owner=MANAGER)
        return ""


class PodBinding:
    """Bindings of pods that a component of this process makes: of each comes what comes of a POST of it. `head`: such a
    request, without a pod's name. Raises what refuses those whatever their pod."""

    def __init__(self, writing: Writing, authorizer: Authorizer, served: Served, head: Request) -> None:
        self._writing = writing
        self._authorizer = authorizer
        self._served = served
        self._store = served.stored()
        self._options = write_options("create", head.query)
        self._facts = writing.facts(head, served, self._options)

    def begin(self, user: UserInfo, pod: PodName, node: str) -> Awaitable[Stored] | None:
        """The write that does it, which may raise StorageError; None where more is to be done, or it is refused."""
        store, namespace, name = self._store, pod.namespace, pod.name
        admission = store.registry.admission
        asked = Attributes("create", "", "v1", "pods", "binding", namespace, name)
        # What looks at nothing but the namespace is heard below.
        is_handled = admission.handles("pods", "CREATE", "binding", user, but=NamespaceLifecycle.name)
        if is_handled or not (node and self._authorizer.allows(user, asked)):
            return None
        facts = {**self._facts, "namespace": namespace, "name": name}
        ctx = self._writing.made(user, self._served, self._options, facts, None)
        ctx.operation = "CREATE"
        binding: JSON = {"labels": topology_labels(store.registry.cacher, node)}

        def assign(stored: bytes) -> JSON:
            known = _ASSIGNED.decode(stored)
            lifecycle.check_uid(ctx, store.resource, {"uid": pod.uid}, known.metadata.uid)
            return _assigned(name, known, binding, node, ctx.now)

        try:
            admission.mutate(ctx, binding, None)
            return direct_writes.begin_amend(store, namespace, name, assign)
        except StatusError:
            return None


async def _take_away(store: Store, ctx: RequestContext, options: DeleteOptions) -> None:
    """Says of the pod why it goes, and deletes it. Raises 404, and 409 for another pod than `options` mean."""

    def mark(pod: JSON) -> bool:
        deletion.check_preconditions(store, ctx, options, pod)
        return _mark(pod, ctx.now)

    if not ctx.dry_run:
        marked = await direct_writes.change(store, ctx, mark)
        if options.resource_version:
            options = _as_it_is(options, loads(marked), again=True)
    await deletion.delete(store, ctx, options)


def _as_it_is(options: DeleteOptions, pod: JSON, *, again: bool = False) -> DeleteOptions:
    """For the pod in this state and no other, unless the client has named one and that is not left behind (`again`)."""
    if options.resource_version and not again:
        return options
    return replace(options, resource_version=str(pod["metadata"]["resourceVersion"]))


def _mark(pod: JSON, now: str) -> bool:
    """Sets the condition that tells of an eviction; False where it is there."""
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "lastProbeTime": None,
        "lastTransitionTime": now,
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
    }
    known = meta.condition(pod, "DisruptionTarget")
    if known is None:
        status = pod.setdefault("status", {})
        status["conditions"] = [*(status.get("conditions") or []), condition]
        return True
    if known.get("status") == "True":
        condition["lastTransitionTime"] = known.get("lastTransitionTime")
    if known.get("observedGeneration"):
        condition["observedGeneration"] = known["observedGeneration"]
    changed = known != condition
    known.clear()
    known.update(condition)
    return changed


def _success(form: negotiation.Form, ctx: RequestContext) -> Response:
    if ctx.audit is not None:
        ctx.audit.responded(SUCCESS)
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


class _AssignedMeta(msgspec.Struct):
    uid: str = ""
    resourceVersion: str = ""
    deletionTimestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class _AssignedSpec(msgspec.Struct):
    nodeName: str = ""
    schedulingGates: list[Any] | None = None


class _AssignedStatus(msgspec.Struct):
    conditions: list[JSON] | None = None


class _Assigned(msgspec.Struct):
    """What of a pod a binding asks about."""

    metadata: _AssignedMeta
    spec: _AssignedSpec
    status: _AssignedStatus | None = None


_ASSIGNED = msgspec.json.Decoder(_Assigned)


def _assigned(name: str, pod: _Assigned, binding: JSON, node: str, now: str) -> JSON:
    """What a binding changes of the pod. Raises 409 for a pod that cannot be bound (any more)."""
    metadata, given = pod.metadata, binding.get("metadata") or {}

    def refuse(detail: str) -> StatusError:
        return errors.conflict("", "pods/binding", name, detail)

    if metadata.deletionTimestamp:
        raise refuse(f"pod {name} is being deleted, cannot be assigned to a host")
    if pod.spec.nodeName:
        raise refuse(f'pod {name} is already assigned to node "{pod.spec.nodeName}"')
    if pod.spec.schedulingGates:
        raise refuse(f"pod {name} has non-empty .spec.schedulingGates")
    changed: JSON = {}
    if binding["labels"]:
        changed["labels"] = {**(metadata.labels or {}), **binding["labels"]}
    if given.get("annotations"):
        changed["annotations"] = {**(metadata.annotations or {}), **given["annotations"]}
    before = (pod.status.conditions if pod.status is not None else None) or ()
    conditions = [one for one in before if one.get("type") != "PodScheduled"]
    scheduled = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now}
    # the node it has says more than the one it was to get
    status = {"nominatedNodeName": None, "conditions": [*conditions, scheduled]}
    return {"metadata": changed, "spec": {"nodeName": node}, "status": status}


def _has_ended(pod: JSON) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed") or meta.is_deleting(pod)


def _ignores_budget(pod: JSON) -> bool:
    """Pods that do no work are no disruption."""
    return _has_ended(pod) or (pod.get("status") or {}).get("phase") in ("Pending", None)


def _ready(pod: JSON) -> bool:
    condition = meta.condition(pod, "Ready")
    return condition is not None and condition.get("status") == "True"


def _health(budget: JSON) -> tuple[int, int]:
    """How many pods are healthy, and how many must be."""
    status = budget.get("status") or {}
    return status.get("currentHealthy") or 0, status.get("desiredHealthy") or 0


def _spares_unready(budget: JSON) -> bool:
    """Whether a pod that is not ready may go without being counted."""
    healthy, desired = _health(budget)
    policy = (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy") or "IfHealthyBudget"
    return bool(policy == "AlwaysAllow" or healthy >= desired > 0)


def _refusal(seconds: int, detail: str) -> StatusError:
    refusal = "Cannot evict pod as it would violate the pod's disruption budget."
    return errors.too_many_requests(refusal, seconds, causes=[Cause("DisruptionBudget", detail)])


def _not_yet(name: str) -> StatusError:
    return _refusal(10, f"The disruption budget {name} is still being processed by the server.")


def _spend(budget: JSON, pod: JSON, now: str) -> None:
    """Takes one disruption from the budget. Raises 403, 429."""
    status, name = budget.setdefault("status", {}), meta.name(budget)
    if (status.get("observedGeneration") or 0) < meta.generation(budget):
        raise _not_yet(name)
    allowed, gone = status.get("disruptionsAllowed") or 0, status.get("disruptedPods") or {}
    if allowed < 0:
        raise errors.forbidden("policy", "poddisruptionbudget", name, "pdb disruptions allowed is negative")
    if len(gone) > _MOST_DISRUPTED:
        detail = "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
        raise errors.forbidden("policy", "poddisruptionbudget", name, detail)
    if allowed == 0:
        raise _refusal(0, _why_none(budget))
    status["disruptionsAllowed"] = allowed - 1
    status["disruptedPods"] = {**gone, meta.name(pod): now}
    if allowed == 1:
        _close(budget, now)


def _close(budget: JSON, now: str) -> None:
    """As the budget's controller will say of it."""
    meta.set_condition(budget, "DisruptionAllowed", "False", "InsufficientPods", "", now=now)
    condition = meta.condition(budget, "DisruptionAllowed")
    assert condition is not None
    condition["observedGeneration"] = budget["status"]["observedGeneration"]


def _why_none(budget: JSON) -> str:
    """Of a budget that allows no disruption."""
    name, (healthy, desired) = meta.name(budget), _health(budget)
    condition = meta.condition(budget, "DisruptionAllowed") or {}
    said = condition.get("message") if condition.get("status") == "False" else None
    refused = f"The disruption budget {name} does not allow evicting pods currently"
    if said and condition.get("reason") == "SyncFailed":
        return f"{refused} because it failed sync: {said}"
    if healthy <= desired:
        return f"The disruption budget {name} needs {desired} healthy pods and has {healthy} currently"
    return f"{refused} ({condition.get('reason') or ''}): {said}" if said else refused
