"""Pod specs, in pods and in templates.

After kubernetes `pkg/apis/core/validation/validation.go`, ValidatePodSpec.
"""

from __future__ import annotations

from typing import Any

from kubecore.apiserver.registry.validation import addresses, names
from kubecore.apiserver.registry.validation.containers import Surroundings, validate_containers, validate_image_spacing
from kubecore.apiserver.registry.validation.known_specs import KnownSpecs, likeness
from kubecore.apiserver.registry.validation.metadata import validate_annotations, validate_labels
from kubecore.apiserver.registry.validation.pod_annotations import (
    validate_pod_annotations,
    validate_profiles_as_annotated,
)
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.resources import validate_pod_requirements, validate_requirements
from kubecore.apiserver.registry.validation.scheduling import (
    validate_affinity,
    validate_gates,
    validate_tolerations,
    validate_topology_spread,
)
from kubecore.apiserver.registry.validation.security import validate_pod_security
from kubecore.apiserver.registry.validation.volumes import validate_volumes
from kubecore.apiserver.registry.validation.windows import (
    containers_with_paths,
    validate_host_process,
    validate_system,
)

JSON = dict[str, Any]

_RESTART_POLICIES = ("Always", "OnFailure", "Never")
_DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_PREEMPTION = ("PreemptLowerPriority", "Never")
_MAX_INT32 = 2**31 - 1
_NAMESERVERS, _SEARCHES, _SEARCH_CHARACTERS = 3, 32, 2048
_HOSTNAME = 64
_MIRROR = "kubernetes.io/config.mirror"


_known = KnownSpecs()


def validate_pod_spec(problems: Problems, spec: JSON, path: str = "spec", *, pod: JSON | None = None) -> None:
    """`pod` is the metadata of the pod; templates have none."""
    key = likeness(spec, pod)
    if key not in _known:
        before = len(problems)
        # No rule may read of the pod what its likeness does not tell: it would not see it.
        _validate_pod_spec(problems, spec, path, pod if pod is None or key is None else {})
        if len(problems) == before:
            _known.add(key)


def _validate_pod_spec(problems: Problems, spec: JSON, path: str, pod: JSON | None) -> None:
    if spec.get("terminationGracePeriodSeconds") is None:
        problems.required(f"{path}.terminationGracePeriodSeconds")
    volumes = validate_volumes(problems, spec.get("volumes") or [], f"{path}.volumes", pod=pod)
    claims = {claim["name"] for claim in spec.get("resourceClaims") or [] if claim.get("name")}
    if spec.get("resourceClaims"):
        _claims(problems, spec["resourceClaims"], f"{path}.resourceClaims", pod)
    validate_containers(problems, Surroundings(spec, volumes, claims), path)
    if spec.get("resources") is not None:
        validate_pod_requirements(problems, spec, f"{path}.resources", claims)
    if spec.get("hostNetwork"):
        _host_network(problems, spec, path, in_pod=pod is not None)
    problems.one_of(f"{path}.restartPolicy", spec.get("restartPolicy"), _RESTART_POLICIES, required=True)
    problems.one_of(f"{path}.dnsPolicy", spec.get("dnsPolicy"), _DNS_POLICIES, required=True)
    if selector := spec.get("nodeSelector"):
        validate_labels(problems, selector, f"{path}.nodeSelector")
    validate_pod_security(problems, spec, f"{path}.securityContext")
    validate_affinity(problems, spec.get("affinity"), f"{path}.affinity")
    _dns(problems, spec, path)
    validate_gates(problems, spec, path)
    if constraints := spec.get("topologySpreadConstraints"):
        validate_topology_spread(problems, constraints, f"{path}.topologySpreadConstraints")
    validate_host_process(problems, spec, path)
    if spec.get("hostUsers") is False:
        _own_users(problems, spec, path)
    _names(problems, spec, path)
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None:
        problems.between(f"{path}.activeDeadlineSeconds", deadline, 1, _MAX_INT32)
    if tolerations := spec.get("tolerations"):
        validate_tolerations(problems, tolerations, f"{path}.tolerations")
    if aliases := spec.get("hostAliases"):
        _host_aliases(problems, aliases, f"{path}.hostAliases")
    if spec.get("preemptionPolicy") is not None:
        problems.one_of(f"{path}.preemptionPolicy", spec["preemptionPolicy"], _PREEMPTION, required=True)
    if overhead := spec.get("overhead"):
        _overhead(problems, overhead, f"{path}.overhead")
    if spec.get("os") is not None:
        validate_system(problems, spec, path)
    _file_variables(problems, spec, path)


def _overhead(problems: Problems, overhead: JSON, path: str) -> None:
    """As limits of a container, which is where upstream says they are."""
    validate_requirements(problems, {"limits": overhead}, path)


def _claims(problems: Problems, claims: list[JSON], path: str, pod: JSON | None) -> None:
    if _MIRROR in ((pod or {}).get("annotations") or {}):
        for _ in claims:
            problems.forbidden("[]", "static pods do not support resource claims")
        return
    taken: set[str] = set()
    for index, claim in enumerate(claims):
        where, name = f"{path}[{index}]", claim.get("name")
        if name and name in taken:
            problems.duplicate(f"{where}.name", name)
        else:
            problems.check_needed(f"{where}.name", name, names.dns_label)
            taken.add(name or "")
        given = [one for one in ("resourceClaimName", "resourceClaimTemplateName") if claim.get(one) is not None]
        if len(given) > 1:
            detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            problems.invalid(where, claim, detail)
        if not given:
            problems.invalid(where, claim, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`")
        for field in given:
            problems.check(f"{where}.{field}", claim[field], names.dns_subdomain)


def _host_network(problems: Problems, spec: JSON, path: str, *, in_pod: bool) -> None:
    for index, container in enumerate(spec.get("containers") or []):
        for number, port in enumerate(container.get("ports") or []):
            host_port = port.get("hostPort") or 0
            if (in_pod or host_port) and host_port != (port.get("containerPort") or 0):
                detail = "must match `containerPort` when `hostNetwork` is true"
                problems.invalid(f"{path}.containers[{index}].ports[{number}].hostPort", host_port, detail)


def _own_users(problems: Problems, spec: JSON, path: str) -> None:
    """A pod with a user namespace of its own shares no other namespace with the host."""
    detail = "when `hostUsers` is false"
    for field, shown in (("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")):
        if spec.get(field):
            problems.forbidden(f"{path}.{shown}", detail)
    for container, where in containers_with_paths(spec, path):
        if container.get("volumeDevices"):
            problems.forbidden(f"{where}.volumeDevices", detail)


_SUBDOMAINS = ("serviceAccountName", "nodeName")
_LABELS = ("hostname", "subdomain")


def _names(problems: Problems, spec: JSON, path: str) -> None:
    """Names a pod refers to and is known by."""
    override, where = spec.get("hostnameOverride"), f"{path}.hostnameOverride"
    if override is not None:
        if spec.get("setHostnameAsFQDN"):
            problems.forbidden(where, "may not be specified when setHostnameAsFQDN is true")
        if spec.get("hostNetwork"):
            problems.forbidden(where, "may not be specified when hostNetwork is true")
        if len(override) > _HOSTNAME:
            problems.too_long(where, _HOSTNAME)
        problems.check(where, override, names.dns_subdomain)
    for field in _SUBDOMAINS:
        if spec.get(field):
            problems.check(f"{path}.{field}", spec[field], names.dns_subdomain)
    for field in _LABELS:
        if spec.get(field):
            problems.check(f"{path}.{field}", spec[field], names.dns_label)
    if spec.get("priorityClassName"):
        problems.check(f"{path}.priorityClassName", spec["priorityClassName"], names.dns_subdomain)
    if spec.get("runtimeClassName") is not None:
        problems.check(f"{path}.runtimeClassName", spec["runtimeClassName"], names.dns_subdomain)


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
            return
    if config is None:
        return
    if len(nameservers) > _NAMESERVERS:
        problems.invalid(f"{where}.nameservers", nameservers, f"must not have more than {_NAMESERVERS} nameservers")
    for index, nameserver in enumerate(nameservers):
        problems.check(f"{where}.nameservers[{index}]", nameserver, addresses.ip)
    searches = config.get("searches") or []
    if len(searches) > _SEARCHES:
        problems.invalid(f"{where}.searches", searches, f"must not have more than {_SEARCHES} search paths")
    if len(" ".join(searches)) > _SEARCH_CHARACTERS:
        detail = f"must not have more than {_SEARCH_CHARACTERS} characters (including spaces) in the search list"
        problems.invalid(f"{where}.searches", searches, detail)
    for index, search in enumerate(searches):
        if search != ".":
            problems.check(f"{where}.searches[{index}]", search.removesuffix("."), names.search_domain)
    for index, option in enumerate(config.get("options") or []):
        if not option.get("name"):
            problems.required(f"{where}.options[{index}]", "must not be empty")


def _host_aliases(problems: Problems, aliases: list[JSON], path: str) -> None:
    for index, alias in enumerate(aliases):
        problems.check(f"{path}[{index}].ip", alias.get("ip") or "", addresses.ip)
        for number, hostname in enumerate(alias.get("hostnames") or []):
            problems.check(f"{path}[{index}].hostnames[{number}]", hostname, names.dns_subdomain)


def _file_variables(problems: Problems, spec: JSON, path: str) -> None:
    """Variables read from files: the files are in an emptyDir of the pod."""
    volumes = {volume.get("name") or "": volume for volume in spec.get("volumes") or []}
    for container, where in containers_with_paths(spec, path):
        for index, variable in enumerate(container.get("env") or []):
            reference = (variable.get("valueFrom") or {}).get("fileKeyRef")
            if reference is None:
                continue
            name, at = reference.get("volumeName") or "", f"{where}.env[{index}].valueFrom.fileKeyRef.volumeName"
            if name not in volumes:
                problems.not_found(at, name)
            elif volumes[name].get("emptyDir") is None:
                problems.invalid(at, name, "referenced volume must be of type emptyDir")


def validate_pod(problems: Problems, pod: JSON) -> None:
    """A pod as it is created or updated; metadata by itself has been checked."""
    metadata, spec = pod["metadata"], pod.get("spec") or {}
    if annotations := metadata.get("annotations"):
        validate_pod_annotations(problems, annotations, spec, "metadata.annotations")
    validate_pod_spec(problems, spec, pod=metadata)
    if not spec.get("serviceAccountName"):
        for index, volume in enumerate(spec.get("volumes") or []):
            for number, source in enumerate((volume.get("projected") or {}).get("sources") or []):
                if source.get("serviceAccountToken") is not None:
                    where = f"spec.volumes[{index}].projected.sources[{number}].serviceAccountToken"
                    problems.forbidden(where, "must not be specified when serviceAccountName is not set")
    for kind in ("containers", "initContainers"):
        for index, container in enumerate(spec.get(kind) or []):
            validate_image_spacing(problems, container, f"spec.{kind}[{index}]")


def validate_new_pod(problems: Problems, pod: JSON) -> None:
    """What is asked of a pod only when it is created."""
    spec = pod.get("spec") or {}
    if spec.get("ephemeralContainers"):
        problems.forbidden("spec.ephemeralContainers", "cannot be set on create")
    if spec.get("schedulingGates") and spec.get("nodeName"):
        problems.forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared")
    if annotations := pod["metadata"].get("annotations"):
        validate_profiles_as_annotated(problems, annotations, spec, "spec")


def validate_template(problems: Problems, template: JSON | None, path: str = "spec.template") -> None:
    """A PodTemplateSpec by itself; what its owner demands of it is checked there."""
    template = template or {}
    metadata, spec = template.get("metadata") or {}, template.get("spec") or {}
    if labels := metadata.get("labels"):
        validate_labels(problems, labels, f"{path}.labels")
    annotations = metadata.get("annotations")
    if annotations:
        validate_annotations(problems, annotations, f"{path}.annotations")
        validate_pod_annotations(problems, annotations, spec, f"{path}.annotations")
    validate_pod_spec(problems, spec, f"{path}.spec")
    if annotations:
        validate_profiles_as_annotated(problems, annotations, spec, f"{path}.spec")
    if spec.get("ephemeralContainers"):
        problems.forbidden(f"{path}.spec.ephemeralContainers", "ephemeral containers not allowed in pod template")


def validate_running_template(problems: Problems, template: JSON | None, path: str, *, kind: str) -> None:
    """The template of what keeps pods running: they are always restarted and never run out of time."""
    validate_template(problems, template, path)
    validate_running(problems, (template or {}).get("spec") or {}, f"{path}.spec", kind=kind)


def validate_running(problems: Problems, spec: JSON, path: str, *, kind: str) -> None:
    """A pod spec of pods that are always restarted and never run out of time."""
    if spec.get("restartPolicy") != "Always":
        problems.unsupported(f"{path}.restartPolicy", spec.get("restartPolicy") or "", ("Always",))
    if spec.get("activeDeadlineSeconds") is not None:
        problems.forbidden(f"{path}.activeDeadlineSeconds", f"activeDeadlineSeconds in {kind} is not Supported")
