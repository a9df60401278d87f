"""The Node mode: a kubelet reaches what its own pods need, and no more.

After upstream plugin/pkg/auth/authorizer/node. Instead of keeping a graph, the pods of the node are looked up in the
watch cache's nodeName index when a kubelet asks for something a pod may refer to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from typing import TYPE_CHECKING, Any

from kubecore.apiserver.authorization.attributes import COLLECTIONS, Attributes, field_requirements
from kubecore.apiserver.authorization.volume_secrets import VOLUMES, VolumeSecrets, claim_of
from kubecore.apiserver.bootstrap.roles import node_rules
from kubecore.apiserver.registry.codec import loads

if TYPE_CHECKING:
    from kubecore._native import UserInfo
    from kubecore.apiserver.registry.strategy import User
    from kubecore.apiserver.storage.cacher import Cacher

JSON = dict[str, Any]

_PREFIX = "system:node:"
_GROUP = "system:nodes"
_MIRROR = "kubernetes.io/config.mirror"
_CLAIMS = "persistentvolumeclaims"
READS = ("get", "list", "watch")
WRITES = ("get", "create", "update", "patch", "delete")


def node_name(user: User) -> str | None:
    """The node a user is the kubelet of, "" where he does not say which, None for others."""
    if user.username.startswith(_PREFIX) and _GROUP in user.groups:
        return user.username[len(_PREFIX) :]
    return None


# A certificate may name a node by any text.
_ESCAPES = str.maketrans({one: f"\\{one}" for one in "\\,="})


# What a node may watch one by one, as long as other objects lead it there.
_LED_TO = {
    ("", "secrets"),
    ("", "configmaps"),
    ("", "persistentvolumeclaims"),
    ("", "persistentvolumes"),
    ("", "pods"),
    ("storage.k8s.io", "volumeattachments"),
    ("resource.k8s.io", "resourceclaims"),
}


class NodeAuthorizer:
    def __init__(self, cacher: Cacher) -> None:
        self._cacher = cacher
        # Of the node that asked last, which asks many times where it starts or is reviewed.
        self._known = _PodsOf("", -1, [])
        self._rules = node_rules()
        self._volume_secrets = VolumeSecrets(cacher)
        self._judges: dict[tuple[str, str], Callable[[str, Attributes], str]] = {
            ("", "secrets"): self._referenced,
            ("", "configmaps"): self._referenced,
            ("", _CLAIMS): self._claim,
            ("", VOLUMES): self._volume,
            ("", "serviceaccounts"): self._account,
            ("", "nodes"): self._node,
            ("", "pods"): self._pod,
            ("coordination.k8s.io", "leases"): self._lease,
            ("storage.k8s.io", "csinodes"): self._own_name,
            ("storage.k8s.io", "volumeattachments"): self._attachment,
            ("resource.k8s.io", "resourceclaims"): self._resource_claim,
            ("resource.k8s.io", "resourceslices"): self._slice,
            ("certificates.k8s.io", "podcertificaterequests"): self._certificate_request,
        }

    def authorize(self, user: UserInfo, attributes: Attributes) -> tuple[bool | None, str]:
        node = node_name(user)
        if node == "":
            return None, f'unknown node for user "{user.username}"'
        if node is None or attributes.path:
            return None, ""
        judge = self._judges.get((attributes.group, attributes.resource))
        if judge is None:
            return (True, "") if _allows(self._rules, attributes) else (None, "")
        try:
            reason = judge(node, attributes)
        except _NotThis:
            return None, ""
        return (None, reason) if reason else (True, "")

    def changes_unseen(self, user: UserInfo, attributes: Attributes) -> bool:
        led_to = bool(attributes.name) and (attributes.group, attributes.resource) in _LED_TO
        return led_to and bool(node_name(user))

    def _pods(self, node: str) -> list[JSON]:
        return self._pods_of(node).pods

    def _pods_of(self, node: str) -> _PodsOf:
        # Asked for before the pods are: a change meanwhile makes the next one look again.
        changed = self._cacher.changed("pods")
        if (self._known.node, self._known.changed) != (node, changed):
            self._known = _PodsOf(node, changed, list(self._listed(node)))
        return self._known

    def _listed(self, node: str) -> Iterator[JSON]:
        named = node.translate(_ESCAPES)
        for item in self._cacher.list("pods", field_selector=f"spec.nodeName={named}").items:
            pod = loads(item)
            # What a node makes itself must not open anything to it.
            if _MIRROR not in ((pod["metadata"].get("annotations")) or {}):
                yield pod

    def _is_bound(self, resource_key: str, attributes: Attributes, node: str) -> str:
        """Whether the object is of this node by its `spec.nodeName`; "" when it is."""
        if self._cacher.cached(resource_key) is None:
            return _unrelated(node)
        found = self._cacher.get(resource_key, attributes.namespace, attributes.name)
        bound = found is not None and (loads(found.value).get("spec") or {}).get("nodeName") == node
        return "" if bound else _unrelated(node)

    # --- each answers "" for what the node may do, else why not

    def _referenced(self, node: str, attributes: Attributes) -> str:
        if attributes.verb not in READS:
            return "can only read resources of this type"
        if attributes.subresource:
            return "cannot read subresource"
        if not attributes.namespace:
            return "can only read namespaced object of this type"
        return self._related(node, attributes)

    def _related(self, node: str, attributes: Attributes) -> str:
        if not attributes.name:
            return "No Object name found"
        asked = attributes.namespace, attributes.name
        if self._refers(node, attributes.resource, {asked}):
            return ""
        if attributes.resource == "secrets" and self._refers(node, _CLAIMS, self._volume_secrets.claims(asked)):
            return ""
        return _unrelated(node)

    def _refers(self, node: str, resource: str, objects: Set[tuple[str, str]]) -> bool:
        """Whether a pod of the node refers to one of the objects, by namespace and name each."""
        return bool(objects) and not self._pods_of(node).referenced(resource).isdisjoint(objects)

    def _claim(self, node: str, attributes: Attributes) -> str:
        if attributes.subresource == "status":
            if attributes.verb not in ("update", "patch"):
                return "can only get/update/patch this type"
            return self._related(node, attributes)
        return self._gets(attributes) or self._related(node, attributes)

    def _gets(self, attributes: Attributes) -> str:
        """Our kubelets watch single objects where upstream's ask for them again and again."""
        if attributes.verb not in READS or not attributes.name:
            return "can only get individual resources of this type"
        return "cannot get subresource" if attributes.subresource else ""

    def _volume(self, node: str, attributes: Attributes) -> str:
        if why := self._gets(attributes):
            return why
        found = self._cacher.get(VOLUMES, "", attributes.name)
        claim = None if found is None else claim_of(loads(found.value))
        return "" if claim is not None and self._refers(node, _CLAIMS, {claim}) else _unrelated(node)

    def _account(self, node: str, attributes: Attributes) -> str:
        if attributes.verb == "get" and not attributes.subresource:
            if not attributes.namespace:
                return "can only read namespaced object of this type"
        elif attributes.verb != "create" or not attributes.name:
            return "can only create tokens for individual service accounts"
        elif attributes.subresource != "token":
            return "can only create token subresource of serviceaccount"
        for pod in self._pods(node):
            spec = pod.get("spec") or {}
            if (
                pod["metadata"].get("namespace") == attributes.namespace
                and (spec.get("serviceAccountName") or "default") == attributes.name
            ):
                return ""
        return _unrelated(node)

    def _node(self, node: str, attributes: Attributes) -> str:
        if attributes.subresource == "status" and attributes.verb in ("update", "patch"):
            return ""
        if not attributes.subresource:
            if attributes.verb in ("create", "update", "patch"):
                return ""
            if attributes.verb in READS:
                if attributes.name == node:
                    return ""
                what = f"'{attributes.name}'" if attributes.name else "all nodes"
                return f"node '{node}' cannot read {what}, only its own Node object"
        raise _NotThis

    def _pod(self, node: str, attributes: Attributes) -> str:
        allowed = {"": ("create", "delete"), "status": ("update", "patch"), "eviction": ("create",)}
        if attributes.verb in allowed.get(attributes.subresource, ()):
            return ""
        if attributes.subresource or attributes.verb not in READS:
            raise _NotThis
        if attributes.verb != "get" and _selects(attributes, "spec.nodeName", node):
            return ""
        if attributes.name:
            return self._is_bound("pods", attributes, node)
        if attributes.verb == "get":
            return "No Object name found"
        return "can only list/watch pods with spec.nodeName field selector"

    def _lease(self, node: str, attributes: Attributes) -> str:
        if attributes.verb not in WRITES:
            return "can only get, create, update, patch, or delete a node lease"
        if attributes.namespace != "kube-node-lease":
            return 'can only access leases in the "kube-node-lease" system namespace'
        if attributes.verb != "create" and attributes.name != node:
            return "can only access node lease with the same name as the requesting node"
        return ""

    def _own_name(self, node: str, attributes: Attributes) -> str:
        if attributes.verb not in WRITES:
            return "can only get, create, update, patch, or delete a CSINode"
        if attributes.subresource:
            return "cannot authorize CSINode subresources"
        if attributes.verb != "create" and attributes.name != node:
            return "can only access CSINode with the same name as the requesting node"
        return ""

    def _attachment(self, node: str, attributes: Attributes) -> str:
        return self._gets(attributes) or self._is_bound("volumeattachments.storage.k8s.io", attributes, node)

    def _resource_claim(self, node: str, attributes: Attributes) -> str:
        if why := self._gets(attributes):
            return why
        for pod in self._pods(node):
            if pod["metadata"].get("namespace") == attributes.namespace and attributes.name in claimed(pod):
                return ""
        return _unrelated(node)

    def _slice(self, node: str, attributes: Attributes) -> str:
        if attributes.subresource:
            return "cannot authorize ResourceSlice subresources"
        if attributes.verb == "create":
            return ""
        if attributes.verb in COLLECTIONS:
            if _selects(attributes, "spec.nodeName", node):
                return ""
            return "can only list/watch/deletecollection resourceslices with nodeName field selector"
        return self._is_bound("resourceslices.resource.k8s.io", attributes, node)

    def _certificate_request(self, node: str, attributes: Attributes) -> str:
        if attributes.subresource:
            return "nodes may not access the status subresource of PodCertificateRequests"
        if attributes.verb == "create":
            return ""
        if attributes.verb == "get":
            return self._is_bound("podcertificaterequests.certificates.k8s.io", attributes, node)
        if attributes.verb not in READS:
            return f"nodes may not {attributes.verb} podcertificaterequests"
        if _selects(attributes, "spec.nodeName", node):
            return ""
        return "can only list/watch podcertificaterequests with nodeName field selector"


class _PodsOf:
    """A node, as of the revision of pods' last change."""

    def __init__(self, node: str, changed: int, pods: list[JSON]) -> None:
        self.node, self.changed, self.pods = node, changed, pods
        self._referenced: dict[str, set[tuple[str, str]]] = {}

    def referenced(self, resource: str) -> set[tuple[str, str]]:
        """Namespaces and names of what its pods refer to."""
        found = self._referenced.get(resource)
        if found is None:
            named = ((pod["metadata"].get("namespace", ""), references(pod, resource)) for pod in self.pods)
            found = self._referenced[resource] = {(namespace, name) for namespace, names in named for name in names}
        return found


class _NotThis(Exception):
    """Nothing that nodes do; there is no more to say."""


def _unrelated(node: str) -> str:
    return f"no relationship found between node '{node}' and this object"


def _selects(attributes: Attributes, field: str, value: str) -> bool:
    return (field, "In", (value,)) in field_requirements(attributes.field_selector)


def _allows(rules: list[JSON], attributes: Attributes) -> bool:
    resource = attributes.resource
    if attributes.subresource:
        resource += f"/{attributes.subresource}"
    return any(
        (attributes.verb in rule["verbs"] or "*" in rule["verbs"])
        and attributes.group in rule.get("apiGroups", ())
        and resource in rule.get("resources", ())
        for rule in rules
    )


def references(pod: JSON, resource: str) -> set[str]:
    """Names of secrets, configmaps or persistentvolumeclaims that a pod refers to."""
    spec = pod.get("spec") or {}
    names: set[str] = set()
    source_keys = {"secrets": "secret", "configmaps": "configMap", _CLAIMS: "persistentVolumeClaim"}
    source = source_keys[resource]
    for volume in spec.get("volumes") or []:
        found = volume.get(source) or {}
        names.add(found.get("secretName") or found.get("claimName") or found.get("name") or "")
        for projection in (volume.get("projected") or {}).get("sources") or []:
            names.add((projection.get(source) or {}).get("name") or "")
        if "ephemeral" in volume and resource == _CLAIMS:
            names.add(f"{pod['metadata'].get('name')}-{volume['name']}")
    if resource != _CLAIMS:
        env_key, from_key = f"{source}KeyRef", f"{source}Ref"
        for container in _containers(spec):
            for variable in container.get("env") or []:
                names.add(((variable.get("valueFrom") or {}).get(env_key) or {}).get("name") or "")
            for origin in container.get("envFrom") or []:
                names.add((origin.get(from_key) or {}).get("name") or "")
    if resource == "secrets":
        names |= {one.get("name") or "" for one in spec.get("imagePullSecrets") or []}
        for volume in spec.get("volumes") or []:
            names |= set(_secrets_of_storage(volume))
    names.discard("")
    return names


def _secrets_of_storage(volume: JSON) -> Iterator[str]:
    """By which a volume's storage is reached."""
    for source in volume.values():
        if isinstance(source, dict):
            for key in ("secretRef", "nodePublishSecretRef"):
                yield (source.get(key) or {}).get("name") or ""
    yield (volume.get("azureFile") or {}).get("secretName") or ""


def _containers(spec: JSON) -> Iterator[JSON]:
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(kind) or []


def claimed(pod: JSON) -> set[str]:
    """Names of the ResourceClaims that a pod uses, made for it or by others."""
    named = [*((pod.get("spec") or {}).get("resourceClaims") or [])]
    status = pod.get("status") or {}
    named += status.get("resourceClaimStatuses") or []
    named.append(status.get("extendedResourceClaimStatus") or {})
    return {name for one in named if (name := one.get("resourceClaimName"))}
