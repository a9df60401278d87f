"""Ingresses."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation import addresses, advice, names
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.references import validate_typed_reference

JSON = dict[str, Any]

_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
_FORBIDDEN_SEQUENCES = ("//", "/./", "/../", "%2f", "%2F")
_FORBIDDEN_ENDINGS = ("/..", "/.")
_CLASS_ANNOTATION = "kubernetes.io/ingress.class"


class IngressStrategy(Strategy):
    resource_key = "ingresses.networking.k8s.io"

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["status"] = {"loadBalancer": {}}

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems, spec = Problems(), obj.get("spec") or {}
        rules, backend = spec.get("rules") or [], spec.get("defaultBackend")
        if not rules and backend is None:
            problems.invalid("spec", spec.get("rules"), "either `defaultBackend` or `rules` must be specified")
        if backend is not None:
            _backend(problems, backend, "spec.defaultBackend")
        for index, rule in enumerate(rules):
            _rule(problems, rule, f"spec.rules[{index}]")
        for index, tls in enumerate(spec.get("tls") or []):
            for number, host in enumerate(tls.get("hosts") or []):
                _host(problems, host, f"spec.tls[{index}].hosts[{number}]")
            if tls.get("secretName"):
                problems.check(f"spec.tls[{index}].secretName", tls["secretName"], names.dns_subdomain)
        class_name = spec.get("ingressClassName")
        if class_name is not None:
            problems.check("spec.ingressClassName", class_name, names.dns_subdomain)
            annotated = (obj["metadata"].get("annotations") or {}).get(_CLASS_ANNOTATION)
            if ctx.operation == "CREATE" and annotated not in (None, class_name):
                path = f"annotations.{_CLASS_ANNOTATION}"
                problems.invalid(path, annotated, "must match `ingressClassName` when both are specified")
        return problems

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems, held = Problems(), {one.get("ip") for one in _balancers(old)}
        for index, one in enumerate(_balancers(obj)):
            where, address, hostname = f"status.loadBalancer.ingress[{index}]", one.get("ip"), one.get("hostname")
            if address and address not in held:
                problems.check(f"{where}.ip", address, addresses.ip)
            if hostname:
                problems.check(f"{where}.hostname", hostname, names.dns_subdomain)
                if addresses.parse_old_ip(hostname) is not None:
                    problems.invalid(f"{where}.hostname", hostname, "must be a DNS name, not an IP address")
        return problems

    def warnings(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> list[str]:
        if ctx.subresource == "status":
            return advice.of_balancers(obj)
        annotated = _CLASS_ANNOTATION in (obj["metadata"].get("annotations") or {})
        if old is None and annotated and (obj.get("spec") or {}).get("ingressClassName") is None:
            return [f"annotation \"{_CLASS_ANNOTATION}\" is deprecated, please use 'spec.ingressClassName' instead"]
        return []


def _balancers(ingress: JSON) -> list[JSON]:
    """Where a controller says that the Ingress is reached."""
    return ((ingress.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []


def _host(problems: Problems, host: str, path: str) -> None:
    problems.check(path, host, names.wildcard_dns_subdomain if "*" in host else names.dns_subdomain)


def _rule(problems: Problems, rule: JSON, path: str) -> None:
    host, http = rule.get("host"), rule.get("http")
    if host:
        if addresses.parse_ip(host) is not None:
            problems.invalid(f"{path}.host", host, "must be a DNS name, not an IP address")
        else:
            _host(problems, host, f"{path}.host")
    if http is None:
        return
    paths = http.get("paths") or []
    if not paths:
        problems.required(f"{path}.http.paths")
    for index, one in enumerate(paths):
        _path(problems, one, f"{path}.http.paths[{index}]")


def _path(problems: Problems, one: JSON, path: str) -> None:
    kind, text = one.get("pathType"), one.get("path") or ""
    if kind is None:
        problems.required(f"{path}.pathType", "pathType must be specified")
        return
    if kind not in _PATH_TYPES:
        problems.unsupported(f"{path}.pathType", kind, _PATH_TYPES)
    elif kind == "ImplementationSpecific":
        if text and not text.startswith("/"):
            problems.invalid(f"{path}.path", text, "must be an absolute path")
    else:
        if not text.startswith("/"):
            problems.invalid(f"{path}.path", text, "must be an absolute path")
        for sequence in _FORBIDDEN_SEQUENCES:
            if sequence in text:
                problems.invalid(f"{path}.path", text, f"must not contain '{sequence}'")
        for ending in _FORBIDDEN_ENDINGS:
            if text.endswith(ending):
                problems.invalid(f"{path}.path", text, f"cannot end with '{ending}'")
    _backend(problems, one.get("backend") or {}, f"{path}.backend")


def _backend(problems: Problems, backend: JSON, path: str) -> None:
    service, resource = backend.get("service"), backend.get("resource")
    if service is not None and resource is not None:
        problems.invalid(path, "", "cannot set both resource and service backends")
    elif resource is not None:
        validate_typed_reference(problems, resource, f"{path}.resource")
    elif service is None:
        problems.invalid(path, "", "resource or service backend is required")
    else:
        _service_backend(problems, service, path)


def _service_backend(problems: Problems, service: JSON, backend: str) -> None:
    path = f"{backend}.service"
    if not service.get("name"):
        problems.required(f"{path}.name")
    else:
        problems.check(f"{path}.name", service["name"], names.dns_1035_label)
    port = service.get("port") or {}
    name, number = port.get("name"), port.get("number")
    if name and number:
        problems.invalid(backend, "", "cannot set both port name & port number")
    elif name:
        problems.check(f"{path}.port.name", name, names.port_name)
    elif number:
        problems.port(f"{path}.port.number", number)
    else:
        problems.required(backend, "port name or number is required")
