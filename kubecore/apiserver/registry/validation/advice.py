"""What is accepted but told of, in the words of Kubernetes' strategies (WarningsOnCreate, WarningsOnUpdate)."""

from __future__ import annotations

import re
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from kubecore.api import quantity
from kubecore.apiserver.registry.validation.addresses import parse_ip, parse_old_cidr, parse_old_ip

JSON = dict[str, Any]

_PLAIN_ADDRESS = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.(?!$)|$)){4}")
_FUTURE = "will be considered invalid in a future Kubernetes release: use"
_SLICES_OF_CONTROLLERS = ("endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io")
_BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
_TOPOLOGY_HINTS = "service.kubernetes.io/topology-aware-hints"


def of_address(path: str, text: str) -> list[str]:
    """After apimachinery pkg/util/validation GetWarningsForIP."""
    if _PLAIN_ADDRESS.fullmatch(text):
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
        instead = 'deprecated since v1.8; use "storageClassName" attribute instead'
        told.append(f"metadata.annotations[{_BETA_CLASS}]: {instead}")
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
