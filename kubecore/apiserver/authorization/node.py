"""The Node mode: a kubelet reaches what its own pods need, and no more.

After upstream plugin/pkg/auth/authorizer/node. Instead of keeping a graph, the pods of the node are looked up in the
watch cache's nodeName index when a kubelet asks for something a pod may refer to.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kubecore.apiserver.authorization.authorizer import Attributes
from kubecore.apiserver.bootstrap.roles import node_rules
from kubecore.apiserver.registry.codec import loads

if TYPE_CHECKING:
    from kubecore._native import UserInfo
    from kubecore.apiserver.storage.cacher import Cacher

JSON = dict[str, Any]

_PREFIX = "system:node:"
_GROUP = "system:nodes"


def node_name(user: UserInfo) -> str:
    """The node a user is the kubelet of, "" for others."""
    if user.username.startswith(_PREFIX) and _GROUP in user.groups:
        return user.username[len(_PREFIX) :]
    return ""


class NodeAuthorizer:
    def __init__(self, cacher: Cacher) -> None:
        self._cacher = cacher
        self._rules = node_rules()

    def authorize(self, user: UserInfo, attributes: Attributes) -> tuple[bool | None, str]:
        node = node_name(user)
        if not node or attributes.path:
            return None, ""
        judge = {
            ("", "secrets"): self._referenced,
            ("", "configmaps"): self._referenced,
            ("", "persistentvolumeclaims"): self._referenced,
            ("", "persistentvolumes"): self._volume,
            ("", "serviceaccounts"): self._token,
            ("coordination.k8s.io", "leases"): self._lease,
            ("storage.k8s.io", "csinodes"): self._own_name,
        }.get((attributes.group, attributes.resource))
        if judge is not None:
            reason = judge(node, attributes)
            return (True, "") if not reason else (None, reason)
        return (True, "") if _allows(self._rules, attributes) else (None, "")

    def _pods(self, node: str) -> Iterator[JSON]:
        for item in self._cacher.list("pods", field_selector=f"spec.nodeName={node}").items:
            yield loads(item)

    def _referenced(self, node: str, attributes: Attributes) -> str:
        """ "" when a pod of the node refers to the object, else why not."""
        resource, name = attributes.resource, attributes.name
        if attributes.verb not in ("get", "list", "watch") or attributes.subresource:
            if resource == "persistentvolumeclaims" and attributes.subresource == "status":
                pass
            else:
                return "can only read resources of this type"
        if not name:
            return "No Object name found"
        for pod in self._pods(node):
            if pod["metadata"].get("namespace") == attributes.namespace and name in references(pod, resource):
                return ""
        return f"no relationship found between node '{node}' and this object"

    def _volume(self, node: str, attributes: Attributes) -> str:
        if attributes.verb not in ("get", "list", "watch"):
            return "can only read resources of this type"
        claims = {
            (pod["metadata"].get("namespace"), claim)
            for pod in self._pods(node)
            for claim in references(pod, "persistentvolumeclaims")
        }
        for namespace, claim in claims:
            found = self._cacher.get("persistentvolumeclaims", namespace, claim)
            if found is not None and (loads(found.value).get("spec") or {}).get("volumeName") == attributes.name:
                return ""
        return f"no relationship found between node '{node}' and this object"

    def _token(self, node: str, attributes: Attributes) -> str:
        if attributes.subresource != "token":
            return (
                ""
                if attributes.verb in ("get", "list", "watch") and _allows(self._rules, attributes)
                else ("can only get individual resources of this type")
            )
        if attributes.verb != "create":
            return "only create is allowed on tokens"
        for pod in self._pods(node):
            spec = pod.get("spec") or {}
            if (
                pod["metadata"].get("namespace") == attributes.namespace
                and (spec.get("serviceAccountName") or "default") == attributes.name
            ):
                return ""
        return f"no relationship found between node '{node}' and this object"

    def _lease(self, node: str, attributes: Attributes) -> str:
        if attributes.namespace != "kube-node-lease":
            return "can only access leases in the 'kube-node-lease' system namespace"
        if attributes.verb not in ("get", "create", "update", "patch", "delete"):
            return "can only get, create, update, patch, or delete a node lease"
        if attributes.verb != "create" and attributes.name != node:
            return "can only access node lease with the same name as the requesting node"
        return ""

    def _own_name(self, node: str, attributes: Attributes) -> str:
        if attributes.verb not in ("get", "create", "update", "patch", "delete"):
            return "can only get, create, update, patch, or delete a CSINode"
        if attributes.verb != "create" and attributes.name != node:
            return "can only access CSINode with the same name as the requesting node"
        return ""


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
    source_keys = {"secrets": "secret", "configmaps": "configMap", "persistentvolumeclaims": "persistentVolumeClaim"}
    source = source_keys[resource]
    for volume in spec.get("volumes") or []:
        found = volume.get(source) or {}
        names.add(found.get("secretName") or found.get("claimName") or found.get("name") or "")
        for projection in (volume.get("projected") or {}).get("sources") or []:
            names.add((projection.get(source) or {}).get("name") or "")
        if "ephemeral" in volume and resource == "persistentvolumeclaims":
            names.add(f"{pod['metadata'].get('name')}-{volume['name']}")
    if resource != "persistentvolumeclaims":
        env_key, from_key = f"{source}KeyRef", f"{source}Ref"
        for container in _containers(spec):
            for variable in container.get("env") or []:
                names.add(((variable.get("valueFrom") or {}).get(env_key) or {}).get("name") or "")
            for origin in container.get("envFrom") or []:
                names.add((origin.get(from_key) or {}).get("name") or "")
    if resource == "secrets":
        names |= {one.get("name") or "" for one in spec.get("imagePullSecrets") or []}
    names.discard("")
    return names


def _containers(spec: JSON) -> Iterator[JSON]:
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(kind) or []
