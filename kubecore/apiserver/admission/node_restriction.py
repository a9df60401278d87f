"""NodeRestriction: a kubelet writes its own node and its own pods only.

After upstream plugin/pkg/admission/noderestriction.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from cryptography.x509.oid import NameOID

from kubecore.api import errors, meta
from kubecore.api.quoting import quoted
from kubecore.apiserver.admission.chain import CREATE, DELETE, UPDATE, Plugin
from kubecore.apiserver.admission.node_labels import forbidden_labels
from kubecore.apiserver.admission.pod_references import api_object_of
from kubecore.apiserver.authorization.attributes import Attributes
from kubecore.apiserver.authorization.node import node_name
from kubecore.apiserver.registry.validation.certificates import parsed_request

if TYPE_CHECKING:
    from kubecore._native import UserInfo
    from kubecore.apiserver.authorization.authorizer import Authorizer
    from kubecore.apiserver.registry.strategy import RequestContext, User

JSON = dict[str, Any]
# The request, the node that asks, the object and what it was.
Judge = Callable[["RequestContext", str, JSON, JSON], None]

_MIRROR = "kubernetes.io/config.mirror"
_LEASES = "kube-node-lease"
_KUBELET_SIGNERS = ("kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet")
# Of a claim's status, what a node has to say.
_CLAIM_STATUS = ("capacity", "conditions", "allocatedResources", "allocatedResourceStatuses")


class NodeRestriction(Plugin):
    name = "NodeRestriction"

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer
        self._judges: dict[str, Judge] = {
            "pods": _pod,
            "nodes": _node,
            "persistentvolumeclaims": _claim,
            "serviceaccounts": self._account,
            "leases.coordination.k8s.io": _lease,
            "csinodes.storage.k8s.io": _csi_node,
            "resourceslices.resource.k8s.io": _slice,
            "certificatesigningrequests.certificates.k8s.io": _signing_request,
            "podcertificaterequests.certificates.k8s.io": _pod_certificate,
        }

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        return resource_key in self._judges and operation in (CREATE, UPDATE, DELETE)

    def restricts(self, user: User) -> bool:
        return node_name(user) is not None

    def expect(self, ctx: RequestContext, obj: JSON) -> Awaitable[None] | None:
        """Of a token, what webhooks say of whom it is for, where they have a say: later there is no waiting."""
        if ctx.resource_key != "serviceaccounts" or ctx.subresource != "token" or not self._authorizer.asks_webhooks:
            return None
        audiences = (obj.get("spec") or {}).get("audiences") or [""]
        if not node_name(ctx.user) or len(audiences) > 1 or _is_wanted(ctx, obj, audiences[0]):
            return None
        return self._consult(ctx, audiences[0])

    async def _consult(self, ctx: RequestContext, audience: str) -> None:
        user: UserInfo = ctx.user  # type: ignore[assignment]
        ctx.consulted = await self._authorizer.decide(user, _of_audience(ctx, audience))

    def mutate(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> bool:
        """Changes nothing. Of a write of the status it judges all that was sent, as upstream: also what such a write
        does not change."""
        user: UserInfo = ctx.user  # type: ignore[assignment]
        node = node_name(user)
        if node == "":
            raise _refuse(ctx, f'could not determine node from user "{user.username}"')
        if node is not None:
            self._judges[ctx.resource_key](ctx, node, obj if ctx.whole is None else ctx.whole, old or {})
        return False

    def _account(self, ctx: RequestContext, node: str, obj: JSON, old: JSON) -> None:
        """Tokens are for pods of the node, and for whom these say."""
        if ctx.operation != CREATE or ctx.subresource != "token":
            return
        spec = obj.get("spec") or {}
        bound = spec.get("boundObjectRef") or {}
        if (bound.get("apiVersion"), bound.get("kind")) != ("v1", "Pod") or not bound.get("name"):
            raise _refuse(ctx, "node requested token not bound to a pod")
        if not bound.get("uid"):
            raise _refuse(ctx, "node requested token with a pod binding without a uid")
        pod = _existing(ctx, bound["name"])
        if bound["uid"] != meta.uid(pod):
            detail = f"the UID in the bound object reference ({bound['uid']}) does not match the UID in record. "
            raise _refuse(ctx, detail + "The object might have been deleted and then recreated")
        if _node_of(pod) != node:
            raise _refuse(ctx, "node requested token bound to a pod scheduled on a different node")
        audiences = spec.get("audiences") or [""]
        if len(audiences) > 1:
            raise _refuse(ctx, "node may only request 0 or 1 audiences")
        if not _wants_audience(ctx, pod, audiences[0]):
            self._check_audience(ctx, audiences[0])

    def _check_audience(self, ctx: RequestContext, audience: str) -> None:
        """One that no volume of the pod asks for."""
        user: UserInfo = ctx.user  # type: ignore[assignment]
        decision = ctx.consulted or self._authorizer.authorize(user, _of_audience(ctx, audience))
        if decision.allowed:
            return
        what = "request tokens for this audience"
        detail = f"{user.username} is not authorized to {what}"
        if decision.error:
            detail = f"error authorizing {user.username} to {what}: {decision.error}"
        raise _refuse(ctx, f"audience {quoted(audience)} not found in pod spec volume, {detail}")


def _of_audience(ctx: RequestContext, audience: str) -> Attributes:
    """To have tokens made for it, of the account that is asked for one."""
    verb = "request-serviceaccounts-token-audience"
    return Attributes(verb, "", "v1", audience, namespace=ctx.namespace, name=ctx.name)


def _is_wanted(ctx: RequestContext, obj: JSON, audience: str) -> bool:
    """Whether the pod of which the request speaks wants it, as far as there is one: what is amiss is told later."""
    name = ((obj.get("spec") or {}).get("boundObjectRef") or {}).get("name")
    pod = ctx.lookup.get("pods", ctx.namespace, name) if name else None
    return pod is None or _wants_audience(ctx, pod, audience)


def _pod(ctx: RequestContext, node: str, obj: JSON, old: JSON) -> None:
    if ctx.subresource == "status":
        _pod_status(ctx, node, obj, old)
    elif ctx.subresource == "eviction":
        if _node_of(_existing(ctx, ctx.name)) != node:
            raise _refuse(ctx, f"node {node} can only evict pods with spec.nodeName set to itself")
    elif ctx.subresource:
        allowed = "only 'status' and 'eviction' are allowed"
        raise _refuse(ctx, f'unexpected pod subresource "{ctx.subresource}", {allowed}')
    elif ctx.operation == CREATE:
        _mirror(ctx, node, obj)
    elif ctx.operation == UPDATE:
        raise _refuse(
            ctx, f'unexpected operation "{ctx.operation}", node "{node}" can only create and delete mirror pods'
        )
    elif ctx.verb == "deletecollection":
        # Upstream looks for the one that the request names, and finds none.
        raise _gone("pod", "")
    elif _node_of(old) != node:
        raise _refuse(ctx, f'node "{node}" can only delete pods with spec.nodeName set to itself')


def _mirror(ctx: RequestContext, node: str, pod: JSON) -> None:
    """A pod that a node makes shows what it runs anyway, and is the node's."""
    if _MIRROR not in meta.annotations(pod):
        detail = f'pod does not have "{_MIRROR}" annotation, node "{node}" can only create mirror pods'
        raise _refuse(ctx, detail)
    if _node_of(pod) != node:
        raise _refuse(ctx, f'node "{node}" can only create pods with spec.nodeName set to itself')
    owners = meta.owner_references(pod)
    if len(owners) > 1:
        raise _refuse(ctx, f'node "{node}" can only create pods with a single owner reference set to itself')
    owner = owners[0] if owners else {}
    if (owner.get("apiVersion"), owner.get("kind"), owner.get("name")) != ("v1", "Node", node):
        raise _refuse(ctx, f'node "{node}" can only create pods with an owner reference set to itself')
    if not owner.get("controller"):
        raise _refuse(ctx, f'node "{node}" can only create pods with a controller owner reference set to itself')
    if owner.get("blockOwnerDeletion"):
        raise _refuse(ctx, f'node "{node}" must not set blockOwnerDeletion on an owner reference')
    own = ctx.lookup.get("nodes", "", node)
    if own is None:
        raise _gone("node", node)
    if owner.get("uid") != meta.uid(own):
        raise _refuse(ctx, f"node {node} UID mismatch: expected {owner.get('uid')} got {meta.uid(own)}")
    if resource := api_object_of(pod):
        raise _refuse(ctx, f'node "{node}" can not create pods that reference {resource}')


def _pod_status(ctx: RequestContext, node: str, obj: JSON, old: JSON) -> None:
    if ctx.operation != UPDATE:
        raise _refuse(ctx, f'unexpected operation "{ctx.operation}"')
    if _node_of(old) != node:
        raise _refuse(ctx, f'node "{node}" can only update pod status for pods with spec.nodeName set to itself')
    if meta.labels(obj) != meta.labels(old):
        raise _refuse(ctx, f'node "{node}" cannot update labels through pod status')
    now, before = obj.get("status") or {}, old.get("status") or {}
    if (now.get("resourceClaimStatuses") or []) != (before.get("resourceClaimStatuses") or []):
        raise _refuse(ctx, f'node "{node}" cannot update resource claim statues')
    if (now.get("extendedResourceClaimStatus") or {}) != (before.get("extendedResourceClaimStatus") or {}):
        raise _refuse(ctx, f'node "{node}" cannot update extended resource claim status')


def _node(ctx: RequestContext, node: str, obj: JSON, old: JSON) -> None:
    name = _named(ctx)
    if name != node:
        raise _refuse(ctx, f'node "{node}" is not allowed to modify node "{name}"')
    if ctx.operation == DELETE:
        return
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    source = spec.get("configSource")
    forbidden = ", ".join(forbidden_labels(meta.labels(obj), meta.labels(old)))
    if ctx.operation == CREATE:
        if source is not None:
            raise _refuse(ctx, f'node "{node}" is not allowed to create pods with a non-nil configSource')
        if forbidden:
            raise _refuse(ctx, f'node "{node}" is not allowed to set the following labels: {forbidden}')
        return
    if source is not None and source != before.get("configSource"):
        raise _refuse(ctx, f'node "{node}" is not allowed to update configSource to a new non-nil configSource')
    if (spec.get("taints") or []) != (before.get("taints") or []):
        raise _refuse(ctx, f'node "{node}" is not allowed to modify taints')
    if meta.owner_references(obj) != meta.owner_references(old):
        raise _refuse(ctx, f'node "{node}" is not allowed to modify ownerReferences')
    if forbidden:
        raise _refuse(ctx, f"is not allowed to modify labels: {forbidden}")


def _claim(ctx: RequestContext, node: str, obj: JSON, old: JSON) -> None:
    if ctx.subresource != "status":
        raise _refuse(ctx, "may only update PVC status")
    if ctx.operation != UPDATE:
        raise _refuse(ctx, f'unexpected operation "{ctx.operation}"')
    if _without_the_nodes_part(obj) != _without_the_nodes_part(old):
        what = "update fields other than status.quantity and status.conditions"
        raise _refuse(ctx, f'node "{node}" is not allowed to {what}')


def _without_the_nodes_part(claim: JSON) -> JSON:
    metadata = {key: value for key, value in (claim.get("metadata") or {}).items() if value}
    for field in ("resourceVersion", "managedFields"):
        metadata.pop(field, None)
    status = {key: value for key, value in (claim.get("status") or {}).items() if key not in _CLAIM_STATUS}
    return {"metadata": metadata, "spec": claim.get("spec") or {}, "status": status}


def _lease(ctx: RequestContext, node: str, obj: JSON, old: JSON) -> None:
    if ctx.namespace != _LEASES:
        raise _refuse(ctx, f'can only access leases in the "{_LEASES}" system namespace')
    if _named(ctx) != node:
        raise _refuse(ctx, "can only access node lease with the same name as the requesting node")


def _csi_node(ctx: RequestContext, node: str, obj: JSON, old: JSON) -> None:
    if _named(ctx) != node:
        raise _refuse(ctx, "can only access CSINode with the same name as the requesting node")


def _slice(ctx: RequestContext, node: str, obj: JSON, old: JSON) -> None:
    if ctx.operation != UPDATE and _node_of(old if ctx.operation == DELETE else obj) != node:
        verb = ctx.operation.lower()
        raise _refuse(ctx, f"can only {verb} ResourceSlice with the same NodeName as the requesting node")


def _signing_request(ctx: RequestContext, node: str, obj: JSON, old: JSON) -> None:
    spec = obj.get("spec") or {}
    if ctx.operation != CREATE or spec.get("signerName") not in _KUBELET_SIGNERS:
        return
    try:
        request = parsed_request(spec.get("request") or "")
    except ValueError as error:
        raise _refuse(ctx, f"unable to parse csr: {error}") from None
    names = [str(one.value) for one in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names[-1:] != [f"system:node:{node}"]:
        raise _refuse(ctx, f"can only create a node CSR with CN=system:node:{node}")


def _pod_certificate(ctx: RequestContext, node: str, obj: JSON, old: JSON) -> None:
    if ctx.operation != CREATE:
        raise _refuse(ctx, f"unexpected operation {ctx.operation}")
    if ctx.subresource:
        raise _refuse(ctx, f"unexpected subresource {ctx.subresource}")
    spec = obj.get("spec") or {}
    named, name, account = (spec.get(field) or "" for field in ("nodeName", "podName", "serviceAccountName"))
    if named != node:
        detail = f'PodCertificateRequest.Spec.NodeName="{named}", which is not the requesting node "{node}"'
        raise _refuse(ctx, detail)
    whole_name = f"{ctx.namespace}/{name}"
    what = f'PodCertificateRequest for pod "{whole_name}"'
    found, uid = _sought(ctx, "node", "nodes", "", node), spec.get("nodeUID") or ""
    if meta.uid(found) != uid:
        told = f'names node UID "{uid}", inconsistent with the running node ("{meta.uid(found)}")'
        raise _ask_again(f"{what} {told}")
    pod, uid = _sought(ctx, "pod", "pods", ctx.namespace, name), spec.get("podUID") or ""
    if meta.uid(pod) != uid:
        raise _ask_again(f'{what} contains pod UID ("{uid}") which differs from running pod "{meta.uid(pod)}"')
    if _node_of(pod) != node:
        detail = f'pod "{whole_name}" is not running on node "{node}" named in the PodCertificateRequest'
        raise _refuse(ctx, detail)
    if _MIRROR in meta.annotations(pod):
        raise _refuse(ctx, f'pod "{whole_name}" is a mirror pod')
    running = (pod.get("spec") or {}).get("serviceAccountName") or ""
    if account != running:
        detail = f'contains serviceAccountName ("{account}") that differs from running pod ("{running}")'
        raise _refuse(ctx, f"{what} {detail}")
    found = _sought(ctx, "service account", "serviceaccounts", ctx.namespace, account)
    uid = spec.get("serviceAccountUID") or ""
    if meta.uid(found) != uid:
        told = f'names service account UID "{uid}", which differs from the running service account'
        raise _ask_again(f'{what} {told} ("{meta.uid(found)}")')


def _ask_again(told: str) -> errors.StatusError:
    """The 500 of upstream, whose informers may lag."""
    return errors.StatusError(500, "", told)


def _sought(ctx: RequestContext, what: str, resource_key: str, namespace: str, name: str) -> JSON:
    """What a PodCertificateRequest names. Raises 500."""
    found = ctx.lookup.get(resource_key, namespace, name)
    if found is None:
        whole_name = f"{namespace}/{name}" if namespace else name
        why = f'{resource_key.removesuffix("s")} "{name}" not found'
        raise _ask_again(f'while retrieving {what} "{whole_name}" named in the PodCertificateRequest: {why}')
    return found


def _gone(singular: str, name: str) -> errors.StatusError:
    """The 404 of upstream's informers, who speak of one."""
    return errors.not_found("", singular, name)


def _named(ctx: RequestContext) -> str:
    """As the request does; whose name is to be made has none yet."""
    return "" if ctx.name_prefix or ctx.verb == "deletecollection" else ctx.name


def _existing(ctx: RequestContext, name: str) -> JSON:
    """A pod of the namespace. Raises 404."""
    found = ctx.lookup.get("pods", ctx.namespace, name)
    if found is None:
        raise _gone("pod", name)
    return found


def _wants_audience(ctx: RequestContext, pod: JSON, audience: str) -> bool:
    """Whether a volume of the pod asks for such tokens, itself or through a CSI driver."""
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        for source in (volume.get("projected") or {}).get("sources") or ():
            token = source.get("serviceAccountToken")
            if token is not None and (token.get("audience") or "") == audience:
                return True
        name = _driver(ctx, pod, volume)
        driver = ctx.lookup.get("csidrivers.storage.k8s.io", "", name) if name else None
        requests = ((driver or {}).get("spec") or {}).get("tokenRequests") or ()
        if any((one.get("audience") or "") == audience for one in requests):
            return True
    return False


def _driver(ctx: RequestContext, pod: JSON, volume: JSON) -> str:
    """The CSI driver behind a volume, "" for others."""
    if "csi" in volume:
        return (volume["csi"] or {}).get("driver") or ""
    claim = (volume.get("persistentVolumeClaim") or {}).get("claimName") or ""
    if "ephemeral" in volume:
        claim = f"{meta.name(pod)}-{volume['name']}"
    found = ctx.lookup.get("persistentvolumeclaims", meta.namespace(pod), claim) if claim else None
    bound = ((found or {}).get("spec") or {}).get("volumeName") or ""
    persistent = ctx.lookup.get("persistentvolumes", "", bound) if bound else None
    return (((persistent or {}).get("spec") or {}).get("csi") or {}).get("driver") or ""


def _node_of(obj: JSON) -> str:
    return (obj.get("spec") or {}).get("nodeName") or ""


def _refuse(ctx: RequestContext, detail: str) -> errors.StatusError:
    plural, _, group = ctx.resource_key.partition(".")
    return errors.forbidden(group, plural, ctx.called, detail)
