"""A container's environment: its own variables, those of ConfigMaps and Secrets, and the Services of its namespace."""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from kubecore.api import meta
from kubecore.api.quoting import quoted
from kubecore.kubelet.pods import env_files
from kubecore.kubelet.pods.expansion import expand
from kubecore.kubelet.pods.fields import FieldError, NodeFacts, field_value, resource_value

if TYPE_CHECKING:
    from kubecore.kubelet.volumes.manager import Volume

log = logging.getLogger(__name__)

Object = dict[str, Any]

Lookup = Callable[[str, str, str], Object | None]
"""(resource key, namespace, name) -> the object, or None when there is none."""


class ConfigError(Exception):
    """A container cannot be configured: CreateContainerConfigError with this text, until what is missing appears."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an environment is made from. `services`: those of the pod's namespace, and default/kubernetes."""

    node: NodeFacts
    pod_ips: tuple[str, ...]
    lookup: Lookup
    services: tuple[Object, ...]


def container_environment(
    pod: Object, container: Object, around: Surroundings, volumes: Mapping[str, Volume] = MappingProxyType({})
) -> dict[str, str]:
    """All variables, in Kubernetes' order of precedence: services, envFrom, env. `volumes`: the pod's, by name. Raises
    ConfigError."""
    service_variables: dict[str, str] = {}
    namespace = meta.namespace(pod)
    links = pod["spec"].get("enableServiceLinks", True)
    for service in around.services:
        # The API itself is told always, everything else of the namespace unless the pod forbids it.
        master = meta.namespace(service) == "default" and meta.name(service) == "kubernetes"
        if master or (links and meta.namespace(service) == namespace):
            service_variables.update(_service_variables(service))
    result: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        result.update(_from_source(source, namespace, around.lookup))
    own: dict[str, str] = {}
    for variable in container.get("env") or []:
        own[variable["name"]] = ""
    # A reference may name a service's variable or an earlier one of the container's, not a later one.
    known = {**service_variables, **result}
    for variable in container.get("env") or []:
        reference = (variable.get("valueFrom") or {}).get("fileKeyRef")
        if reference is None:
            value = _value(pod, container, variable, known, around)
        else:
            value = _value_in_file(reference, volumes)
        if value is None:
            own.pop(variable["name"], None)
            continue
        own[variable["name"]] = value
        known[variable["name"]] = value
    result.update(own)
    return {**service_variables, **result}


def expand_all(words: Iterable[str], variables: dict[str, str]) -> list[str]:
    return [expand(word, variables) for word in words]


def _value(pod: Object, container: Object, variable: Object, known: dict[str, str], around: Surroundings) -> str | None:
    source = variable.get("valueFrom")
    if not source:
        return expand(variable.get("value", ""), known)
    try:
        if "fieldRef" in source:
            return field_value(pod, source["fieldRef"]["fieldPath"], node=around.node, pod_ips=around.pod_ips)
        if "resourceFieldRef" in source:
            reference = source["resourceFieldRef"]
            return resource_value(pod, reference, default_container=container["name"], node=around.node)
    except FieldError as error:
        raise ConfigError(str(error)) from error
    if "configMapKeyRef" in source:
        return _key(source["configMapKeyRef"], "configmaps", meta.namespace(pod), around.lookup)
    if "secretKeyRef" in source:
        return _key(source["secretKeyRef"], "secrets", meta.namespace(pod), around.lookup)
    raise ConfigError(f"environment variable {variable['name']}: no supported source")


def _value_in_file(reference: Object, volumes: Mapping[str, Volume]) -> str | None:
    """None: an optional reference to what is not there, the variable stays unset."""
    name, key = reference.get("volumeName", ""), reference.get("key", "")
    volume = volumes.get(name)
    if volume is None:
        raise ConfigError(f"cannot find the volume {quoted(name)} referenced by FileKeyRef")
    if volume.in_memory:
        raise ConfigError(f"the volume {quoted(name)} referenced by FileKeyRef is in memory, which is not supported")
    try:
        value = env_files.value_in_file(volume.path, reference.get("path", ""), key)
    except FileNotFoundError as error:
        if reference.get("optional", False):
            return None
        raise ConfigError("couldn't parse env file") from error
    except (env_files.BadFile, OSError) as error:
        log.warning("file %s of volume %s: %s", reference.get("path", ""), name, error)
        raise ConfigError("couldn't parse env file") from error
    if not value and not reference.get("optional", False):
        path = quoted(str(volume.path / reference.get("path", "")))
        raise ConfigError(f"environment variable key {quoted(key)} not found in file {path}")
    return value or None


_KINDS = {"configmaps": ("configmap", "ConfigMap"), "secrets": ("secret", "Secret")}


def _key(reference: Object, resource: str, namespace: str, lookup: Lookup) -> str | None:
    """None: an optional reference to what is not there, the variable stays unset."""
    name, key = reference.get("name", ""), reference["key"]
    lower, kind = _KINDS[resource]
    found = lookup(resource, namespace, name)
    optional = reference.get("optional", False)
    if found is None:
        if optional:
            return None
        raise ConfigError(f'{lower} "{name}" not found')
    value = text_values(found).get(key)
    if value is None:
        if optional:
            return None
        raise ConfigError(f"couldn't find key {key} in {kind} {namespace}/{name}")
    return value


def text_values(source: Object) -> dict[str, str]:
    """`data` of a ConfigMap, or of a Secret decoded (bytes that are no UTF-8 survive as surrogates)."""
    data = source.get("data") or {}
    if source.get("kind") == "Secret":
        return {key: base64.b64decode(value or "").decode("utf-8", "surrogateescape") for key, value in data.items()}
    return dict(data)


def _from_source(source: Object, namespace: str, lookup: Lookup) -> dict[str, str]:
    resource = "configmaps" if "configMapRef" in source else "secrets"
    reference = source.get("configMapRef") or source.get("secretRef") or {}
    found = lookup(resource, namespace, reference.get("name", ""))
    if found is None:
        if reference.get("optional", False):
            return {}
        raise ConfigError(f'{_KINDS[resource][0]} "{reference.get("name", "")}" not found')
    prefix = source.get("prefix", "")
    return {prefix + key: value for key, value in sorted(text_values(found).items()) if "=" not in key}


def _service_variables(service: Object) -> dict[str, str]:
    """REDIS_SERVICE_HOST and its kin, in the words of Docker links (upstream `pkg/kubelet/envvars`)."""
    spec = service.get("spec") or {}
    address, ports = spec.get("clusterIP", ""), spec.get("ports") or []
    if address in ("", "None") or not ports:
        return {}
    base = re.sub(r"-", "_", meta.name(service)).upper()
    host = f"[{address}]" if ":" in address else address
    result = {f"{base}_SERVICE_HOST": address, f"{base}_SERVICE_PORT": str(ports[0]["port"])}
    for port in ports:
        if port.get("name"):
            result[f"{base}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(port["port"])
    for index, port in enumerate(ports):
        protocol = port.get("protocol", "TCP")
        link = f"{protocol.lower()}://{host}:{port['port']}"
        if index == 0:
            result[f"{base}_PORT"] = link
        prefix = f"{base}_PORT_{port['port']}_{protocol.upper()}"
        result[prefix] = link
        result[f"{prefix}_PROTO"] = protocol.lower()
        result[f"{prefix}_PORT"] = str(port["port"])
        result[f"{prefix}_ADDR"] = address
    return result
