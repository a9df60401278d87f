"""What is accepted but told of, in the words of Kubernetes' strategies (WarningsOnCreate, WarningsOnUpdate)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from kubecore.api import quantity
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.addresses import PLAIN_IPV4, parse_ip, parse_old_cidr, parse_old_ip

JSON = dict[str, Any]

# Labels of nodes that are of yesterday.
NODE_LABELS = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
    "app.kubernetes.io/created-by": "deprecated since v1.9",
    "scheduler.alpha.kubernetes.io/preferAvoidPods": "deprecated since v1.22; use Taints and Tolerations instead",
    "node-role.kubernetes.io/master": 'use "node-role.kubernetes.io/control-plane" instead',
}
_FUTURE = "will be considered invalid in a future Kubernetes release: use"
_SLICES_OF_CONTROLLERS = ("endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io")
_BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
_BETA_CLASS_INSTEAD = 'deprecated since v1.8; use "storageClassName" attribute instead'
_BETA_MOUNT_OPTIONS = "volume.beta.kubernetes.io/mount-options"
_BETA_MOUNT_OPTIONS_INSTEAD = 'deprecated since v1.31; use "mountOptions" attribute instead'
_ENFORCE_SECRETS = "kubernetes.io/enforce-mountable-secrets"
# Sources of volumes: upstream's name of the field, the field, and what became of it.
_SOURCES = (
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("storageOS", "storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
)
_TOPOLOGY_HINTS = "service.kubernetes.io/topology-aware-hints"


def of_address(path: str, text: str) -> list[str]:
    """After apimachinery pkg/util/validation GetWarningsForIP."""
    if PLAIN_IPV4.fullmatch(text):
        return []
    found = parse_old_ip(text)
    if found is None:
        return []
    mapped = found.ipv4_mapped if found.version == 6 else None
    if parse_ip(text) is None or mapped is not None:
        return [f'{path}: non-standard IP address "{text}" {_FUTURE} "{mapped or found}"']
    if found.version == 6 and str(found) != text:
        return [f'{path}: IPv6 address "{text}" should be in RFC 5952 canonical format ("{found}")']
    return []


def of_balancers(obj: JSON) -> list[str]:
    """Of the addresses at which a status says that a Service or an Ingress is reached."""
    found = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    told = (of_address(f"status.loadBalancer.ingress[{index}]", one.get("ip") or "") for index, one in enumerate(found))
    return [text for texts in told for text in texts]


def of_range(path: str, text: str) -> list[str]:
    """After apimachinery pkg/util/validation GetWarningsForCIDR."""
    found, (head, _, length) = parse_old_cidr(text), text.partition("/")
    address = parse_old_ip(head)
    if found is None or address is None:
        return []
    told = []
    if address != found.network_address:
        single = f"{address}/{found.max_prefixlen}"
        told = [f'{path}: CIDR value "{text}" is ambiguous in this context (should be "{found}" or "{single}"?)']
    mapped = address.ipv4_mapped if address.version == 6 else None
    if parse_ip(head) is None or mapped is not None or (length != "0" and length.startswith("0")):
        told.append(f'{path}: non-standard CIDR value "{text}" {_FUTURE} "{found}"')
    if not told and found.version == 6 and str(found) != text:
        told = [f'{path}: IPv6 CIDR value "{text}" should be in RFC 5952 canonical format ("{found}")']
    return told


def of_service(obj: JSON) -> list[str]:
    """After pkg/api/service GetWarningsForService."""
    spec, told = obj.get("spec") or {}, []
    kind, cluster_ip = spec.get("type"), spec.get("clusterIP") or ""
    if _TOPOLOGY_HINTS in (obj["metadata"].get("annotations") or {}):
        instead = "service.kubernetes.io/topology-mode"
        told.append(f"annotation {_TOPOLOGY_HINTS} is deprecated, please use {instead} instead")
    if cluster_ip and cluster_ip != "None" and kind != "ExternalName":
        told += _each("spec.clusterIPs", spec.get("clusterIPs"))
    external = spec.get("externalIPs") or []
    if kind == "ClusterIP" and cluster_ip == "None":
        if spec.get("loadBalancerIP"):
            told.append("spec.loadBalancerIP is ignored for headless services")
        if external:
            told.append("spec.externalIPs is ignored for headless services")
        if spec.get("sessionAffinity") != "None":
            told.append("spec.SessionAffinity is ignored for headless services")
    told += _each("spec.externalIPs", external)
    if spec.get("loadBalancerIP"):
        told += of_address("spec.loadBalancerIP", spec["loadBalancerIP"])
    for index, text in enumerate(spec.get("loadBalancerSourceRanges") or []):
        told += of_range(f"spec.loadBalancerSourceRanges[{index}]", text)
    if kind == "ExternalName" and external:
        told.append('spec.externalIPs is ignored when spec.type is "ExternalName"')
    if kind != "ExternalName" and spec.get("externalName"):
        told.append('spec.externalName is ignored when spec.type is not "ExternalName"')
    if spec.get("trafficDistribution") == "PreferClose":
        told.append('spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"')
    return told


def _each(path: str, addresses: list[str] | None) -> list[str]:
    listed = enumerate(addresses or [])
    return [text for index, address in listed for text in of_address(f"{path}[{index}]", address)]


def of_slice(obj: JSON) -> list[str]:
    """After pkg/registry/discovery/endpointslice warnOnBadIPs: controllers write addresses well."""
    labels = obj["metadata"].get("labels") or {}
    if labels.get("endpointslice.kubernetes.io/managed-by") in _SLICES_OF_CONTROLLERS:
        return []
    told = []
    for index, endpoint in enumerate(obj.get("endpoints") or []):
        told += _each(f"endpoints[{index}].addresses", endpoint.get("addresses"))
    return told


def of_quota(obj: JSON) -> list[str]:
    """Requests that may be more than limits."""
    hard, told = (obj.get("spec") or {}).get("hard") or {}, []
    for resource in ("cpu", "memory", "storage", "ephemeral-storage"):
        request, limit = f"requests.{resource}", f"limits.{resource}"
        if request not in hard and resource in ("cpu", "memory"):
            request = resource
        if request in hard and limit in hard and quantity.nano(hard[request]) > quantity.nano(hard[limit]):
            told.append(f"ResourceQuota {request} ({hard[request]}) should be less than {limit} ({hard[limit]})")
    return told


def of_claim(obj: JSON) -> list[str]:
    """After pkg/api/persistentvolumeclaim GetWarningsForPersistentVolumeClaim."""
    told = []
    if _BETA_CLASS in (obj["metadata"].get("annotations") or {}):
        told.append(f"metadata.annotations[{_BETA_CLASS}]: {_BETA_CLASS_INSTEAD}")
    return told + of_claim_spec(obj.get("spec") or {}, "spec")


def of_claim_spec(spec: JSON, path: str) -> list[str]:
    """Amounts of bytes that are no whole number."""
    told, resources = [], spec.get("resources") or {}
    for field in ("requests", "limits"):
        amount = (resources.get(field) or {}).get("storage", "0")
        if quantity.milli(amount) % 1000:
            where = f"{path}.resources.{field}[storage]"
            told.append(f'{where}: fractional byte value "{amount}" is invalid, must be an integer')
    return told


def of_key_pair(certificate: bytes, key: bytes) -> list[str]:
    """What Go's tls.X509KeyPair says first of what does not go together."""
    if b"-----BEGIN CERTIFICATE-----" not in certificate:
        return [f"tls: failed to find {_pem_fault(certificate)} in certificate input"]
    if b"PRIVATE KEY-----" not in key:
        return [f"tls: failed to find {_pem_fault(key)} in key input"]
    try:
        shown = x509.load_pem_x509_certificate(certificate).public_key()
        own = serialization.load_pem_private_key(key, password=None).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        return [f"tls: failed to parse the certificate or its key: {error}"]
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if shown.public_bytes(*form) == own.public_bytes(*form):
        return []
    alike = type(shown) is type(own)
    return [f"tls: private key {'' if alike else 'type '}does not match public key{'' if alike else ' type'}"]


def _pem_fault(text: bytes) -> str:
    return "PEM block with type" if b"-----BEGIN " in text else "any PEM data"


def of_node(obj: JSON) -> list[str]:
    """After pkg/registry/core/node nodeWarnings."""
    spec, told = obj.get("spec") or {}, []
    if spec.get("externalID"):
        told.append("spec.externalID: this field is deprecated, and is unused by Kubernetes")
    for index, text in enumerate(spec.get("podCIDRs") or []):
        told += of_range(f"spec.podCIDRs[{index}]", text)
    return told


def of_node_term(term: JSON, path: str, *, values: bool) -> Iterator[str]:
    """Of a term that selects nodes, or of a label selector's expressions; `values` are looked at, too, if asked for.
    After pkg/api/node GetWarningsForNodeSelectorTerm."""
    for index, expression in enumerate(term.get("matchExpressions") or ()):
        where, key = f"{path}.matchExpressions[{index}]", expression.get("key") or ""
        if key in NODE_LABELS:
            yield f"{where}.key: {key} is {NODE_LABELS[key]}"
        for number, value in enumerate((expression.get("values") or ()) if values else ()):
            for wrong in names.label_value(value):
                yield f"{where}.values[{number}]: {value} is invalid, {wrong}"


def of_volume(obj: JSON) -> list[str]:
    """After pkg/api/persistentvolume GetWarningsForPersistentVolume."""
    spec, annotations = obj.get("spec") or {}, obj["metadata"].get("annotations") or {}
    told = [
        f"metadata.annotations[{name}]: {instead}"
        for name, instead in ((_BETA_CLASS, _BETA_CLASS_INSTEAD), (_BETA_MOUNT_OPTIONS, _BETA_MOUNT_OPTIONS_INSTEAD))
        if name in annotations
    ]
    if spec.get("persistentVolumeReclaimPolicy") == "Recycle":
        instead = "Instead, the recommended approach is to use dynamic provisioning."
        told.append(f"spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. {instead}")
    required = (spec.get("nodeAffinity") or {}).get("required") or {}
    for index, term in enumerate(required.get("nodeSelectorTerms") or ()):
        told += of_node_term(term, f"spec.nodeAffinity.required.nodeSelectorTerms[{index}]", values=False)
    return told + [f"spec.{shown}: {text}" for shown, field, text in _SOURCES if spec.get(field) is not None]


def of_storage_class(obj: JSON) -> list[str]:
    """After pkg/api/storage GetWarningsForStorageClass."""
    return [
        f"allowedTopologies[{index}].matchLabelExpressions[{number}].key: {NODE_LABELS[expression['key']]}"
        for index, topology in enumerate(obj.get("allowedTopologies") or ())
        for number, expression in enumerate(topology.get("matchLabelExpressions") or ())
        if expression.get("key") in NODE_LABELS
    ]


def of_storage_capacity(obj: JSON) -> list[str]:
    """After pkg/api/storage GetWarningsForCSIStorageCapacity."""
    selector = obj.get("nodeTopology") or {}
    labels = [key for key in selector.get("matchLabels") or () if key in NODE_LABELS]
    told = of_node_term(selector, "nodeTopology", values=False)
    return [*told, *(f"nodeTopology.matchLabels.{key}: {NODE_LABELS[key]}" for key in labels)]


def of_runtime_class(obj: JSON) -> list[str]:
    """After pkg/api/node GetWarningsForRuntimeClass, which does not say which label it means."""
    selector = (obj.get("scheduling") or {}).get("nodeSelector") or ()
    return [f"scheduling.nodeSelector: {NODE_LABELS[key]}" for key in selector if key in NODE_LABELS]


def of_network_policy(obj: JSON) -> list[str]:
    """After pkg/registry/networking/networkpolicy networkPolicyWarnings."""
    spec, told = obj.get("spec") or {}, []
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(spec.get(direction) or ()):
            for number, peer in enumerate(rule.get(peers) or ()):
                path, block = f"spec.{direction}[{index}].{peers}[{number}].ipBlock", peer.get("ipBlock") or {}
                told += of_range(f"{path}.cidr", block.get("cidr") or "")
                for place, text in enumerate(block.get("except") or ()):
                    told += of_range(f"{path}.except[{place}]", text)
    return told


def of_endpoints(obj: JSON) -> list[str]:
    """After pkg/registry/core/endpoint endpointsWarnings: the controller writes addresses well."""
    labels = obj["metadata"].get("labels") or {}
    if labels.get("endpoints.kubernetes.io/managed-by") == "endpoint-controller":
        return []
    return [
        text
        for index, subset in enumerate(obj.get("subsets") or ())
        for field in ("addresses", "notReadyAddresses")
        for number, address in enumerate(subset.get(field) or ())
        for text in of_address(f"subsets[{index}].{field}[{number}].ip", address.get("ip") or "")
    ]


def of_account(obj: JSON, old: JSON | None) -> list[str]:
    """After pkg/registry/core/serviceaccount: of an annotation that is new."""
    now, before = (((one or {}).get("metadata") or {}).get("annotations") or {} for one in (obj, old))
    if _ENFORCE_SECRETS not in now or _ENFORCE_SECRETS in before:
        return []
    instead = "deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
    return [f"metadata.annotations[{_ENFORCE_SECRETS}]: {instead}"]
