"""What pods and their templates are told of though they are accepted, in upstream's words and order.

After kubernetes `pkg/api/pod/warnings.go` and `pkg/api/job/warnings.go`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kubecore.api import quantity
from kubecore.api.quoting import quoted
from kubecore.apiserver.registry.validation import advice, names
from kubecore.apiserver.registry.validation.addresses import PLAIN_IPV4
from kubecore.apiserver.registry.validation.advice import NODE_LABELS
from kubecore.apiserver.registry.validation.known_specs import KnownSpecs, likeness
from kubecore.apiserver.registry.validation.path_overlaps import overlapping_paths
from kubecore.apiserver.registry.validation.pod_annotations import (
    APP_ARMOR,
    SECCOMP_CONTAINER,
    SECCOMP_POD,
    app_armor_profile,
)
from kubecore.apiserver.registry.validation.ports_alike import MOST_TOLD, PortsAlike
from kubecore.apiserver.registry.validation.windows import containers_with_paths

JSON = dict[str, Any]

_ANNOTATIONS = {
    "scheduler.alpha.kubernetes.io/critical-pod": 'non-functional in v1.16+; use the "priorityClassName" field instead',
    "security.alpha.kubernetes.io/sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
    "security.alpha.kubernetes.io/unsafe-sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
}
# Upstream's name of the field, the field, and what became of it.
_VOLUMES = (
    ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageOS", "storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("ephemeral", "ephemeral", ""),
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
)
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_SECCOMP = 'non-functional in v1.27+; use the "seccompProfile" field instead'
_MATCHES_NOTHING = "a null labelSelector results in matching no pod"
_LONGEST_LABEL = 63
_MANY_COMPLETIONS, _MUCH_PARALLELISM = 100_000, 10_000
_MANY_INDEXES = (
    "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes "
    "might not be able to track completedIndexes when a big number of indexes fail"
)

# Specs of pods of which nothing is told.
_plain = KnownSpecs()


def of_pod(pod: JSON) -> list[str]:
    """Of a new pod. One whose spec is like one already found plain costs a look into a table."""
    metadata, spec = pod["metadata"], pod.get("spec") or {}
    told = of_name(metadata, "this is used in the Pod's hostname")
    key = likeness(spec, metadata)
    if key in _plain:
        return told
    found = _of_spec(spec, metadata.get("annotations") or {}, "", template=False)
    if not found:
        _plain.add(key)
    return told + found


def of_template(template: JSON | None, path: str) -> list[str]:
    """`path` is where the template is ("spec.template")."""
    if template is None:
        return []
    annotations = (template.get("metadata") or {}).get("annotations") or {}
    return _of_spec(template.get("spec") or {}, annotations, f"{path}.", template=True)


def of_workload(obj: JSON, old: JSON | None) -> list[str]:
    """Of what has its pods' template in `spec.template` and its name in theirs; only where it changed."""
    if old is None:
        return of_name(obj["metadata"]) + of_template(obj["spec"].get("template"), "spec.template")
    return of_template(obj["spec"].get("template"), "spec.template") if is_new_generation(obj, old) else []


def of_job_spec(spec: JSON, path: str) -> list[str]:
    told = []
    many = (spec.get("completions") or 0) > _MANY_COMPLETIONS and (spec.get("parallelism") or 0) > _MUCH_PARALLELISM
    if spec.get("completionMode") == "Indexed" and many:
        told = [f"{path}: {_MANY_INDEXES}"]
    return told + of_template(spec.get("template"), f"{path}.template")


def is_new_generation(obj: JSON, old: JSON) -> bool:
    return bool(obj["metadata"].get("generation") != old["metadata"].get("generation"))


def of_name(metadata: JSON, use: str = "this is used in Pod names and hostnames") -> list[str]:
    """Of a name that is a DNS subdomain, as has been checked; one without dots is a label then, unless it is long."""
    name = metadata.get("name") or ""
    if "." not in name and len(name) <= _LONGEST_LABEL:
        return []
    faults = " ".join(names.dns_label(name))
    surprise = "which can result in surprising behavior; a DNS label is recommended"
    return [f"metadata.name: {use}, {surprise}: [{faults}]"]


def of_addresses(status: JSON) -> list[str]:
    """Of the addresses in a pod's status."""
    return [
        text
        for field in ("podIPs", "hostIPs")
        for index, one in enumerate(status.get(field) or ())
        if not PLAIN_IPV4.fullmatch(one.get("ip") or "")
        for text in advice.of_address(f"status.{field}[{index}].ip", one.get("ip") or "")
    ]


def _of_spec(spec: JSON, annotations: JSON, prefix: str, *, template: bool) -> list[str]:
    """`prefix` is the path of pod or template, with a dot, "" for a pod."""
    path, affinity = f"{prefix}spec", spec.get("affinity") or {}
    told = [
        f"{path}.nodeSelector[{key}]: {NODE_LABELS[key]}"
        for key in spec.get("nodeSelector") or ()
        if key in NODE_LABELS
    ]
    told += _node_affinity(affinity.get("nodeAffinity") or {}, f"{path}.affinity.nodeAffinity")
    told += _spread(spec, f"{path}.topologySpreadConstraints")
    told += [f"{prefix}metadata.annotations[{key}]: {text}" for key, text in _ANNOTATIONS.items() if key in annotations]
    told += _volumes(spec.get("volumes") or [], f"{path}.volumes")
    told += overlapping_paths(spec.get("volumes") or [])
    told += _repeated(spec.get("hostAliases") or [], "ip", f"{path}.hostAliases")
    secrets = spec.get("imagePullSecrets") or []
    told += _repeated(secrets, "name", f"{path}.imagePullSecrets")
    for index, secret in enumerate(secrets):
        if not secret.get("name"):
            told.append(f'{path}.imagePullSecrets[{index}].name: invalid empty name ""')
    told += _fractions(spec.get("overhead") or {}, "memory", f"{path}.overhead")
    told += _fractions(spec.get("overhead") or {}, "ephemeral-storage", f"{path}.overhead")
    context, noted = spec.get("securityContext") or {}, f"{prefix}metadata.annotations"
    if SECCOMP_POD in annotations and context.get("seccompProfile") is None:
        told.append(f"{noted}[{SECCOMP_POD}]: {_SECCOMP}")
    for container, where in containers_with_paths(spec, path):
        if annotations:
            told += _profiles(container, annotations, noted, context.get("appArmorProfile"), template=template)
        told += _container(container, where)
    told += _ports(spec, path)
    grace = spec.get("terminationGracePeriodSeconds")
    if grace is not None and grace < 0:
        wrong = "must be >= 0; negative values are invalid and will be treated as 1"
        told.append(f"{path}.terminationGracePeriodSeconds: {wrong}")
    for kind in ("podAffinity", "podAntiAffinity"):
        told += _pod_affinity(affinity.get(kind) or {}, f"{path}.affinity.{kind}")
    for index, server in enumerate((spec.get("dnsConfig") or {}).get("nameservers") or ()):
        told += advice.of_address(f"{path}.dnsConfig.nameservers[{index}]", server)
    for index, alias in enumerate(spec.get("hostAliases") or ()):
        told += advice.of_address(f"{path}.hostAliases[{index}].ip", alias.get("ip") or "")
    return told


def _node_affinity(affinity: JSON, path: str) -> Iterator[str]:
    for index, term in enumerate((affinity.get(_REQUIRED) or {}).get("nodeSelectorTerms") or ()):
        yield from advice.of_node_term(term, f"{path}.{_REQUIRED}.nodeSelectorTerms[{index}]", values=False)
    for index, weighted in enumerate(affinity.get(_PREFERRED) or ()):
        term, where = weighted.get("preference") or {}, f"{path}.{_PREFERRED}[{index}].preference"
        yield from advice.of_node_term(term, where, values=True)


def _spread(spec: JSON, path: str) -> Iterator[str]:
    for index, constraint in enumerate(spec.get("topologySpreadConstraints") or ()):
        key = constraint.get("topologyKey") or ""
        if key in NODE_LABELS:
            yield f"{path}[{index}].topologyKey: {key} is {NODE_LABELS[key]}"
        if constraint.get("labelSelector") is None:
            yield f"{path}[{index}].labelSelector: {_MATCHES_NOTHING}"


def _pod_affinity(affinity: JSON, path: str) -> Iterator[str]:
    for index, term in enumerate(affinity.get(_REQUIRED) or ()):
        if term.get("labelSelector") is None:
            yield f"{path}.{_REQUIRED}[{index}].labelSelector: {_MATCHES_NOTHING}"
    for index, weighted in enumerate(affinity.get(_PREFERRED) or ()):
        if (weighted.get("podAffinityTerm") or {}).get("labelSelector") is None:
            yield f"{path}.{_PREFERRED}[{index}].podAffinityTerm.labelSelector: {_MATCHES_NOTHING}"


def _volumes(volumes: list[JSON], path: str) -> Iterator[str]:
    for index, volume in enumerate(volumes):
        for shown, field, text in _VOLUMES:
            source = volume.get(field)
            if source is None:
                continue
            where = f"{path}[{index}].{shown}"
            if text:
                yield f"{where}: {text}"
            else:
                claim = (source.get("volumeClaimTemplate") or {}).get("spec") or {}
                yield from advice.of_claim_spec(claim, f"{where}.volumeClaimTemplate.spec")


def _repeated(items: list[JSON], field: str, path: str) -> Iterator[str]:
    seen: set[str] = set()
    for index, item in enumerate(items):
        value = item.get(field) or ""
        if value in seen:
            yield f"{path}[{index}].{field}: duplicate {field} {quoted(value)}"
        seen.add(value)


def _fractions(amounts: JSON, resource: str, path: str) -> list[str]:
    amount = amounts.get(resource)
    if amount is None or not quantity.milli(amount) % 1000:
        return []
    return [f'{path}[{resource}]: fractional byte value "{amount}" is invalid, must be an integer']


def _profiles(container: JSON, annotations: JSON, path: str, profile: JSON | None, *, template: bool) -> Iterator[str]:
    """Old annotations of a container without the field that replaced them; `profile` is AppArmor's of the pod."""
    context, name = container.get("securityContext") or {}, container.get("name") or ""
    if SECCOMP_CONTAINER + name in annotations and context.get("seccompProfile") is None:
        yield f"{path}[{SECCOMP_CONTAINER}{name}]: {_SECCOMP}"
    noted = annotations.get(APP_ARMOR + name)
    # A pod's have become fields by now, which it was told of then.
    if not template or noted is None or context.get("appArmorProfile") is not None:
        return
    if profile is None or profile != app_armor_profile(noted):
        yield f'{path}[{APP_ARMOR}{name}]: deprecated since v1.30; use the "appArmorProfile" field instead'


def _container(container: JSON, path: str) -> Iterator[str]:
    if resources := container.get("resources"):
        for resource in ("memory", "ephemeral-storage"):
            for field in ("limits", "requests"):
                if amounts := resources.get(field):
                    yield from _fractions(amounts, resource, f"{path}.resources.{field}")
    variables = container.get("env") or ()
    seen: set[str] = set()
    for index, variable in enumerate(variables):
        name, value = variable.get("name") or "", variable.get("value") or ""
        reference = f"$({name})"
        # A new value may be made of the one before.
        extends = variable.get("valueFrom") is None and reference in value and value != reference
        if name in seen and not extends:
            dropped = "which may be dropped when using apply"
            yield f"{path}.env[{index}]: hides previous definition of {quoted(name)}, {dropped}"
        seen.add(name)


def _ports(spec: JSON, path: str) -> list[str]:
    """Ports of all containers: what is in another's way, and then what is called like another."""
    listed = [
        (f"{where}.ports[{index}]", port)
        for container, where in containers_with_paths(spec, path)
        for index, port in enumerate(container.get("ports") or ())
    ]
    told: list[str] = []
    alike: dict[tuple[int, str], PortsAlike] = {}
    for where, port in listed:
        number, protocol = port.get("containerPort") or 0, port.get("protocol") or ""
        address, on_host = port.get("hostIP") or "", port.get("hostPort") or 0
        if address and not on_host:
            shown = f"Name:{port.get('name') or ''} HostPort:0 ContainerPort:{number} Protocol:{protocol}"
            told.append(f"{where}: hostIP set without hostPort: {{{shown} HostIP:{address}}}")
        told += alike.setdefault((number, protocol), PortsAlike()).joined(where, address, on_host)
        if len(told) >= MOST_TOLD:
            return told
    first: dict[str, str] = {}
    for where, port in listed:
        if name := port.get("name"):
            other = first.setdefault(name, where)
            if other is not where:
                use = f"services and probes that select ports by name will use {other}"
                told.append(f"{where}: duplicate port name {quoted(name)} with {other}, {use}")
    return told
