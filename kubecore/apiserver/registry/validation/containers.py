"""Containers of the three kinds: regular, init and ephemeral.

After kubernetes `pkg/apis/core/validation/validation.go`, validateContainers and its relatives.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.environment import validate_environment, validate_environment_sources
from kubecore.apiserver.registry.validation.probes import validate_lifecycle, validate_probes
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.resources import validate_requirements
from kubecore.apiserver.registry.validation.security import validate_container_security
from kubecore.apiserver.registry.validation.volumes import validate_mounts

JSON = dict[str, Any]

_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_RESTART_POLICIES = ("Always", "Never", "OnFailure")
_MESSAGE_POLICIES = ("File", "FallbackToLogsOnError")
_RESIZES = ("NotRequired", "RestartContainer")
_NOT_EPHEMERAL = (
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
)
_NOT_INIT = ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe")
_RULES, _EXIT_CODES = 20, 255


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a container may refer to of its pod."""

    spec: JSON
    volumes: dict[str, JSON]
    claims: Collection[str]

    @property
    def grace_seconds(self) -> int | None:
        return self.spec.get("terminationGracePeriodSeconds")


def validate_containers(problems: Problems, pod: Surroundings, path: str) -> None:
    """All containers of a pod spec; names are unique over the three lists."""
    containers, inits = pod.spec.get("containers") or [], pod.spec.get("initContainers") or []
    if not containers:
        problems.required(f"{path}.containers")
    taken: set[str] = set()
    for index, container in enumerate(containers):
        where = f"{path}.containers[{index}]"
        _container(problems, container, pod, where)
        _name_once(problems, container, taken, where)
        _running(problems, container, pod, where)
        _restarts(problems, container, where)
    _host_ports(problems, containers, f"{path}.containers")
    for index, container in enumerate(inits):
        where = f"{path}.initContainers[{index}]"
        _container(problems, container, pod, where)
        _init(problems, container, pod, taken, where)
        _host_ports(problems, [container], f"{path}.initContainers")
    if pod.spec.get("ephemeralContainers"):
        _ephemeral_containers(problems, pod, f"{path}.ephemeralContainers")


def _container(problems: Problems, container: JSON, pod: Surroundings, path: str) -> None:
    """What holds for containers of every kind."""
    problems.check_needed(f"{path}.name", container.get("name"), names.dns_label)
    problems.need(path, container, "image")
    policy = container.get("terminationMessagePolicy")
    problems.one_of(f"{path}.terminationMessagePolicy", policy, _MESSAGE_POLICIES, required=True)
    if ports := container.get("ports"):
        _ports(problems, ports, f"{path}.ports")
    if variables := container.get("env"):
        validate_environment(problems, variables, f"{path}.env")
    if sources := container.get("envFrom"):
        validate_environment_sources(problems, sources, f"{path}.envFrom")
    if container.get("volumeMounts") or container.get("volumeDevices"):
        validate_mounts(problems, container, pod.volumes, path)
    problems.one_of(f"{path}.imagePullPolicy", container.get("imagePullPolicy"), _PULL_POLICIES, required=True)
    validate_requirements(problems, container.get("resources"), f"{path}.resources", claims=pod.claims)
    if policies := container.get("resizePolicy"):
        _resize_policies(problems, policies, pod.spec.get("restartPolicy"), f"{path}.resizePolicy")
    if context := container.get("securityContext"):
        host_users = pod.spec.get("hostUsers") is not False
        validate_container_security(problems, context, f"{path}.securityContext", host_users=host_users)


def _name_once(problems: Problems, container: JSON, taken: set[str], path: str) -> None:
    name = container.get("name") or ""
    if name in taken:
        problems.duplicate(f"{path}.name", name)
    taken.add(name)


def _running(problems: Problems, container: JSON, pod: Surroundings, path: str) -> None:
    """A regular container, or a sidecar: it runs as long as the pod."""
    if container.get("lifecycle"):
        validate_lifecycle(problems, container["lifecycle"], f"{path}.lifecycle", pod.grace_seconds)
    validate_probes(problems, container, path, pod.grace_seconds)


def _init(problems: Problems, container: JSON, pod: Surroundings, taken: set[str], path: str) -> None:
    policy, rules = container.get("restartPolicy"), container.get("restartPolicyRules")
    if policy == "Always":
        if rules:
            detail = "restartPolicyRules are not allowed for init containers with restart policy Always"
            problems.forbidden(f"{path}.restartPolicyRules", detail)
    elif policy is None:
        if rules:
            problems.required(f"{path}.restartPolicy", "must specify restartPolicy when restart rules are used")
    else:
        _restarts(problems, container, path)
    if container.get("name"):
        _name_once(problems, container, taken, path)
    elif "" in taken:
        problems.duplicate(f"{path}.name", "")
    if policy == "Always":
        _running(problems, container, pod, path)
        return
    for field in _NOT_INIT:
        if container.get(field) is not None:
            problems.forbidden(f"{path}.{field}", "may not be set for init containers without restartPolicy=Always")


def _restarts(problems: Problems, container: JSON, path: str) -> None:
    """When a container is started again, by policy and by exit code."""
    policy, rules = container.get("restartPolicy"), container.get("restartPolicyRules") or []
    if policy is None:
        if not rules:
            return
        problems.required(f"{path}.restartPolicy", "must specify restartPolicy when restart rules are used")
    elif policy not in _RESTART_POLICIES:
        problems.unsupported(f"{path}.restartPolicy", policy, _RESTART_POLICIES)
    if len(rules) > _RULES:
        problems.too_long(f"{path}.restartPolicyRules", _RULES)
    for index, rule in enumerate(rules):
        where, codes = f"{path}.restartPolicyRules[{index}]", rule.get("exitCodes")
        if rule.get("action") != "Restart":
            problems.unsupported(f"{where}.action", rule.get("action") or "", ("Restart",))
        if codes is None:
            problems.required(f"{where}.exitCodes", "must be specified")
            continue
        if codes.get("operator") not in ("In", "NotIn"):
            problems.unsupported(f"{where}.exitCodes.operator", codes.get("operator") or "", ("In", "NotIn"))
        if len(codes.get("values") or []) > _EXIT_CODES:
            problems.too_long(f"{where}.exitCodes.values", _EXIT_CODES)


def _ephemeral_containers(problems: Problems, pod: Surroundings, path: str) -> None:
    others = {one.get("name") or "" for kind in ("containers", "initContainers") for one in pod.spec.get(kind) or []}
    taken = set(others)
    for index, container in enumerate(pod.spec["ephemeralContainers"]):
        where = f"{path}[{index}]"
        _container(problems, container, pod, where)
        validate_image_spacing(problems, container, where)
        _name_once(problems, container, taken, where)
        target = container.get("targetContainerName")
        if target and target not in others:
            problems.not_found(f"{where}.targetContainerName", target)
        for field in _NOT_EPHEMERAL:
            if container.get(field):
                problems.forbidden(f"{where}.{field}", "cannot be set for an Ephemeral Container")
        for number, mount in enumerate(container.get("volumeMounts") or []):
            for field in ("subPath", "subPathExpr"):
                if mount.get(field):
                    detail = "cannot be set for an Ephemeral Container"
                    problems.forbidden(f"{where}.volumeMounts[{number}].{field}", detail)


def validate_image_spacing(problems: Problems, container: JSON, path: str) -> None:
    """Asked of pods, not of templates."""
    image = container.get("image") or ""
    if image != image.strip():
        problems.invalid(f"{path}.image", image, "must not have leading or trailing whitespace")


def _ports(problems: Problems, ports: list[JSON], path: str) -> None:
    taken: set[str] = set()
    for index, port in enumerate(ports):
        where, name = f"{path}[{index}]", port.get("name")
        if name:
            errors = names.port_name(name)
            for error in errors:
                problems.invalid(f"{where}.name", name, error)
            if not errors and name in taken:
                problems.duplicate(f"{where}.name", name)
            taken.add(name)
        if not port.get("containerPort"):
            problems.required(f"{where}.containerPort")
        else:
            problems.port(f"{where}.containerPort", port["containerPort"])
        if port.get("hostPort"):
            problems.port(f"{where}.hostPort", port["hostPort"])
        problems.one_of(f"{where}.protocol", port.get("protocol"), _PROTOCOLS, required=True)


def _host_ports(problems: Problems, containers: list[JSON], path: str) -> None:
    """No two containers of a pod can have the same port of the host."""
    taken: set[str] = set()
    for index, container in enumerate(containers):
        for number, port in enumerate(container.get("ports") or []):
            if port.get("hostPort"):
                shown = f"{port.get('protocol') or ''}/{port.get('hostIP') or ''}/{port['hostPort']}"
                if shown in taken:
                    problems.duplicate(f"{path}[{index}].ports[{number}].hostPort", shown)
                taken.add(shown)


def _resize_policies(problems: Problems, policies: list[JSON], restart: str | None, path: str) -> None:
    taken: set[str] = set()
    for index, policy in enumerate(policies):
        name, resize = policy.get("resourceName") or "", policy.get("restartPolicy") or ""
        if name in taken:
            problems.duplicate(f"{path}[{index}]", name)
        taken.add(name)
        problems.one_of(path, name, ("cpu", "memory"), required=True)
        problems.one_of(path, resize, _RESIZES, required=True)
        if restart == "Never" and resize != "NotRequired":
            problems.invalid(path, resize, "must be 'NotRequired' when `restartPolicy` is 'Never'")
