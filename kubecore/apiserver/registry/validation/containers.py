"""Containers of the three kinds: regular, init and ephemeral."""

from __future__ import annotations

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
_NOT_EPHEMERAL = ("ports", "resources", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "resizePolicy")


def validate_containers(problems: Problems, spec: JSON, volumes: dict[str, JSON], path: str) -> None:
    """All containers of a pod spec; names are unique over the three lists."""
    taken: set[str] = set()
    if not spec.get("containers"):
        problems.required(f"{path}.containers")
    for index, container in enumerate(spec.get("containers") or []):
        where = f"{path}.containers[{index}]"
        _container(problems, container, spec, volumes, where, taken)
        _running(problems, container, spec, where)
    for index, container in enumerate(spec.get("initContainers") or []):
        where = f"{path}.initContainers[{index}]"
        _container(problems, container, spec, volumes, where, taken)
        _init(problems, container, spec, where)
    _host_ports(problems, spec, path)
    for index, container in enumerate(spec.get("ephemeralContainers") or []):
        where = f"{path}.ephemeralContainers[{index}]"
        _container(problems, container, spec, volumes, where, taken)
        _ephemeral(problems, container, spec, where)


def _container(
    problems: Problems, container: JSON, spec: JSON, volumes: dict[str, JSON], path: str, taken: set[str]
) -> None:
    """What holds for containers of every kind."""
    name = container.get("name")
    if not name:
        problems.required(f"{path}.name")
    else:
        problems.check(f"{path}.name", name, names.dns_label)
        if name in taken:
            problems.duplicate(f"{path}.name", name)
        taken.add(name)
    image = container.get("image") or ""
    if image != image.strip():
        problems.invalid(f"{path}.image", image, "must not have leading or trailing whitespace")
    problems.one_of(
        f"{path}.terminationMessagePolicy",
        container.get("terminationMessagePolicy"),
        ("FallbackToLogsOnError", "File"),
    )
    if ports := container.get("ports"):
        _ports(problems, ports, bool(spec.get("hostNetwork")), f"{path}.ports")
    if variables := container.get("env"):
        validate_environment(problems, variables, f"{path}.env")
    if sources := container.get("envFrom"):
        validate_environment_sources(problems, sources, f"{path}.envFrom")
    if container.get("volumeMounts") or container.get("volumeDevices"):
        validate_mounts(problems, container, volumes, path)
    problems.one_of(f"{path}.imagePullPolicy", container.get("imagePullPolicy"), _PULL_POLICIES, required=True)
    validate_requirements(problems, container.get("resources"), f"{path}.resources")
    validate_container_security(
        problems, container.get("securityContext"), f"{path}.securityContext", host_users=spec.get("hostUsers")
    )
    _resize_policies(problems, container.get("resizePolicy") or [], f"{path}.resizePolicy")


def _image_required(problems: Problems, container: JSON, path: str) -> None:
    if not container.get("image"):
        problems.required(f"{path}.image")


def _running(problems: Problems, container: JSON, spec: JSON, path: str) -> None:
    """A regular container, or a sidecar: it runs as long as the pod."""
    _image_required(problems, container, path)
    problems.one_of(f"{path}.restartPolicy", container.get("restartPolicy"), ("Always", "Never", "OnFailure"))
    grace = spec.get("terminationGracePeriodSeconds")
    if container.get("lifecycle"):
        validate_lifecycle(problems, container["lifecycle"], f"{path}.lifecycle", grace)
    validate_probes(problems, container, path, grace)


def _init(problems: Problems, container: JSON, spec: JSON, path: str) -> None:
    if container.get("restartPolicy") == "Always":
        _running(problems, container, spec, path)
        return
    _image_required(problems, container, path)
    problems.one_of(f"{path}.restartPolicy", container.get("restartPolicy"), ("Always", "Never", "OnFailure"))
    for field in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(field) is not None:
            detail = "may not be set for init containers without restartPolicy=Always"
            problems.forbidden(f"{path}.{field}", detail)


def _ephemeral(problems: Problems, container: JSON, spec: JSON, path: str) -> None:
    _image_required(problems, container, path)
    target = container.get("targetContainerName")
    present = {one.get("name") for one in [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]}
    if target and target not in present:
        problems.not_found(f"{path}.targetContainerName", target)
    for field in _NOT_EPHEMERAL:
        if container.get(field):
            problems.forbidden(f"{path}.{field}", "cannot be set for an Ephemeral Container")
    for index, mount in enumerate(container.get("volumeMounts") or []):
        for field in ("subPath", "subPathExpr"):
            if mount.get(field):
                problems.forbidden(f"{path}.volumeMounts[{index}].{field}", "cannot be set for an Ephemeral Container")


def _ports(problems: Problems, ports: list[JSON], host_network: bool, path: str) -> None:
    taken: set[str] = set()
    for index, port in enumerate(ports):
        where, name = f"{path}[{index}]", port.get("name")
        if name:
            problems.check(f"{where}.name", name, names.port_name)
            if name in taken:
                problems.duplicate(f"{where}.name", name)
            taken.add(name)
        number, host_port = port.get("containerPort"), port.get("hostPort")
        if not number:
            problems.required(f"{where}.containerPort")
        else:
            problems.port(f"{where}.containerPort", number)
        if host_port:
            problems.port(f"{where}.hostPort", host_port)
            if host_network and host_port != number:
                detail = "must match `hostPort` when `hostNetwork` is true"
                problems.invalid(f"{where}.containerPort", number, detail)
        if port.get("hostIP"):
            problems.check(f"{where}.hostIP", port["hostIP"], names.ip)
        problems.one_of(f"{where}.protocol", port.get("protocol"), _PROTOCOLS, required=True)


def _host_ports(problems: Problems, spec: JSON, path: str) -> None:
    """No two containers of a pod can have the same port of the host."""
    taken: set[str] = set()
    for index, container in enumerate(spec.get("containers") or []):
        for number, port in enumerate(container.get("ports") or []):
            if not port.get("hostPort"):
                continue
            shown = f"{port.get('protocol')}/{port.get('hostIP') or '0.0.0.0'}/{port['hostPort']}"
            if shown in taken:
                problems.duplicate(f"{path}.containers[{index}].ports[{number}].hostPort", shown)
            taken.add(shown)


def _resize_policies(problems: Problems, policies: list[JSON], path: str) -> None:
    taken: set[str] = set()
    for index, policy in enumerate(policies):
        where, name = f"{path}[{index}]", policy.get("resourceName")
        if name not in ("cpu", "memory"):
            problems.unsupported(f"{where}.resourceName", name or "", ("cpu", "memory"))
        elif name in taken:
            problems.duplicate(where, name)
        taken.add(name or "")
        allowed = ("NotRequired", "RestartContainer")
        problems.one_of(f"{where}.restartPolicy", policy.get("restartPolicy"), allowed, required=True)
