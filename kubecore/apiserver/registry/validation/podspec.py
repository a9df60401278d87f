"""Pod specs, in pods and in templates.

After kubernetes `pkg/apis/core/validation/validation.go`, ValidatePodSpec.
"""

from __future__ import annotations

from typing import Any

from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.containers import validate_containers
from kubecore.apiserver.registry.validation.metadata import validate_annotations, validate_labels
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.resources import validate_amounts, validate_requirements
from kubecore.apiserver.registry.validation.scheduling import (
    validate_affinity,
    validate_gates,
    validate_tolerations,
    validate_topology_spread,
)
from kubecore.apiserver.registry.validation.security import validate_pod_security
from kubecore.apiserver.registry.validation.volumes import validate_volumes

JSON = dict[str, Any]

_RESTART_POLICIES = ("Always", "Never", "OnFailure")
_DNS_POLICIES = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
_MAX_INT32 = 2**31 - 1
_NAMESERVERS, _SEARCHES, _SEARCH_CHARACTERS = 3, 32, 2048


def validate_pod_spec(problems: Problems, spec: JSON, path: str = "spec") -> None:
    volumes = validate_volumes(problems, spec.get("volumes") or [], f"{path}.volumes")
    validate_containers(problems, spec, volumes, path)
    problems.one_of(f"{path}.restartPolicy", spec.get("restartPolicy"), _RESTART_POLICIES, required=True)
    problems.one_of(f"{path}.dnsPolicy", spec.get("dnsPolicy"), _DNS_POLICIES, required=True)
    _scheduling(problems, spec, path)
    validate_pod_security(problems, spec, f"{path}.securityContext")
    _identity(problems, spec, path)
    _dns(problems, spec, path)
    _lifetime(problems, spec, path)
    validate_requirements(problems, spec.get("resources"), f"{path}.resources")
    validate_amounts(problems, spec.get("overhead"), f"{path}.overhead")
    for index, alias in enumerate(spec.get("hostAliases") or []):
        where = f"{path}.hostAliases[{index}]"
        problems.check(f"{where}.ip", alias.get("ip", ""), names.ip)
        for hostname in alias.get("hostnames") or []:
            problems.check(f"{where}.hostnames", hostname, names.dns_subdomain)


def _scheduling(problems: Problems, spec: JSON, path: str) -> None:
    if selector := spec.get("nodeSelector"):
        validate_labels(problems, selector, f"{path}.nodeSelector")
    validate_affinity(problems, spec.get("affinity"), f"{path}.affinity")
    if tolerations := spec.get("tolerations"):
        validate_tolerations(problems, tolerations, f"{path}.tolerations")
    if constraints := spec.get("topologySpreadConstraints"):
        validate_topology_spread(problems, constraints, f"{path}.topologySpreadConstraints")
    validate_gates(problems, spec, path)
    if spec.get("nodeName"):
        problems.check(f"{path}.nodeName", spec["nodeName"], names.dns_subdomain)
    if not spec.get("schedulerName"):
        problems.required(f"{path}.schedulerName")
    policy = spec.get("preemptionPolicy")
    problems.one_of(f"{path}.preemptionPolicy", policy, ("Never", "PreemptLowerPriority"))


def _identity(problems: Problems, spec: JSON, path: str) -> None:
    """Names a pod refers to and is known by."""
    for field in ("serviceAccountName", "priorityClassName", "runtimeClassName"):
        if spec.get(field):
            problems.check(f"{path}.{field}", spec[field], names.dns_subdomain)
    for field in ("hostname", "subdomain"):
        if spec.get(field):
            problems.check(f"{path}.{field}", spec[field], names.dns_label)
    if spec.get("hostUsers") is False:
        for field in ("hostNetwork", "hostPID", "hostIPC"):
            if spec.get(field):
                problems.forbidden(f"{path}.{field}", "when `hostUsers` is false")
    system = spec.get("os")
    if system is not None:
        problems.one_of(f"{path}.os.name", system.get("name"), ("linux", "windows"), required=True)


def _dns(problems: Problems, spec: JSON, path: str) -> None:
    config, where = spec.get("dnsConfig"), f"{path}.dnsConfig"
    nameservers = (config or {}).get("nameservers") or []
    if spec.get("dnsPolicy") == "None":
        if config is None:
            problems.required(where, "must provide `dnsConfig` when `dnsPolicy` is None")
            return
        if not nameservers:
            detail = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            problems.required(f"{where}.nameservers", detail)
    if config is None:
        return
    if len(nameservers) > _NAMESERVERS:
        problems.invalid(f"{where}.nameservers", nameservers, f"must not have more than {_NAMESERVERS} nameservers")
    for index, nameserver in enumerate(nameservers):
        problems.check(f"{where}.nameservers[{index}]", nameserver, names.ip)
    searches = config.get("searches") or []
    if len(searches) > _SEARCHES:
        problems.invalid(f"{where}.searches", searches, f"must not have more than {_SEARCHES} search paths")
    if len(" ".join(searches)) > _SEARCH_CHARACTERS:
        detail = f"must not have more than {_SEARCH_CHARACTERS} characters (including spaces) in the search list"
        problems.invalid(f"{where}.searches", searches, detail)
    for index, search in enumerate(searches):
        if search != ".":
            problems.check(f"{where}.searches[{index}]", search.removesuffix("."), names.dns_subdomain)
    for index, option in enumerate(config.get("options") or []):
        if not option.get("name"):
            problems.required(f"{where}.options[{index}]", "must not be empty")


def _lifetime(problems: Problems, spec: JSON, path: str) -> None:
    grace = spec.get("terminationGracePeriodSeconds")
    if grace is None:
        problems.required(f"{path}.terminationGracePeriodSeconds")
    else:
        problems.not_negative(f"{path}.terminationGracePeriodSeconds", grace)
    problems.between(f"{path}.activeDeadlineSeconds", spec.get("activeDeadlineSeconds"), 1, _MAX_INT32)


def validate_template(problems: Problems, template: JSON | None, path: str = "spec.template") -> None:
    """A PodTemplateSpec by itself; what its owner demands of it is checked there."""
    if template is None:
        problems.required(path)
        return
    metadata, spec = template.get("metadata") or {}, template.get("spec")
    if labels := metadata.get("labels"):
        validate_labels(problems, labels, f"{path}.labels")
    if annotations := metadata.get("annotations"):
        validate_annotations(problems, annotations, f"{path}.annotations")
    validate_pod_spec(problems, spec or {}, f"{path}.spec")
    if (spec or {}).get("ephemeralContainers"):
        problems.forbidden(f"{path}.spec.ephemeralContainers", "ephemeral containers not allowed in pod template")


def validate_running_template(problems: Problems, template: JSON | None, path: str, *, kind: str) -> None:
    """The template of what keeps pods running: they are always restarted and never run out of time."""
    validate_template(problems, template, path)
    spec = (template or {}).get("spec") or {}
    if spec.get("restartPolicy") not in (None, "Always"):
        problems.unsupported(f"{path}.spec.restartPolicy", spec["restartPolicy"], ("Always",))
    if spec.get("activeDeadlineSeconds") is not None:
        problems.forbidden(f"{path}.spec.activeDeadlineSeconds", f"activeDeadlineSeconds in {kind} is not Supported")
