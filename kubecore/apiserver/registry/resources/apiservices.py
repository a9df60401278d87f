"""APIServices. After upstream kube-aggregator `pkg/registry/apiservice` and `pkg/apis/apiregistration/validation`."""

from __future__ import annotations

import base64
from typing import Any

from kubecore.api import meta
from kubecore.api.errors import Cause
from kubecore.apiserver.registry.resources.generation import Unversioned
from kubecore.apiserver.registry.strategy import RequestContext
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

API_SERVICES = "apiservices.apiregistration.k8s.io"
AVAILABLE = "Available"
HTTPS_PORT = 443

_MOST_GROUP_PRIORITY, _MOST_VERSION_PRIORITY = 20_000, 1_000
_STATES = ("True", "False", "Unknown")
_FIXED_BY_STATUS = ("labels", "annotations", "finalizers", "ownerReferences")


class APIServiceStrategy(Unversioned):
    resource_key = API_SERVICES
    allow_unconditional_update = False
    name_errors = staticmethod(names.path_segment)

    def default(self, obj: JSON) -> None:
        service = (obj.get("spec") or {}).get("service")
        if service is not None and service.get("port") is None:
            service["port"] = HTTPS_PORT

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["status"] = {}
        if (obj.get("spec") or {}).get("service") is None:
            be_local(obj, ctx.now)

    def prepare_for_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        given, before = obj.get("spec") or {}, old.get("spec") or {}
        if given.get("service") is None and before.get("service") is not None:
            be_local(obj, ctx.now)

    def prepare_for_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        for part in _FIXED_BY_STATUS:
            if part in old["metadata"]:
                obj["metadata"][part] = old["metadata"][part]
            else:
                obj["metadata"].pop(part, None)

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems, spec = Problems(), obj.get("spec") or {}
        _names(problems, obj["metadata"], spec)
        _group_version(problems, spec)
        if spec.get("service") is None:
            _local(problems, spec)
        else:
            _remote(problems, spec, spec["service"])
        return problems

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        for index, condition in enumerate((obj.get("status") or {}).get("conditions") or []):
            state = condition.get("status") or ""
            if state not in _STATES:
                problems.unsupported(f"status.conditions[{index}].status", state, _STATES)
        return problems


def be_local(obj: JSON, now: str) -> None:
    """Says that this server serves the version itself."""
    meta.set_condition(obj, AVAILABLE, "True", "Local", "Local APIServices are always available", now=now)


def _names(problems: Problems, metadata: JSON, spec: JSON) -> None:
    """What makes a name is judged as one."""
    wanted = f"{spec.get('version') or ''}.{spec.get('group') or ''}"
    for field in ("generateName", "name"):
        given = metadata.get(field) or ""
        if given and given != wanted and not names.path_segment(given):
            problems.invalid(f"metadata.{field}", given, f'must be `spec.version+"."+spec.group`: "{wanted}"')


def _group_version(problems: Problems, spec: JSON) -> None:
    group, version = spec.get("group") or "", spec.get("version") or ""
    if not group and version != "v1":
        problems.required("spec.group", "only v1 may have an empty group and it better be legacy kube")
    for error in names.dns_subdomain(group) if group else ():
        problems.invalid("spec.group", group, error)
    for error in names.dns_1035_label(version):
        problems.invalid("spec.version", version, error)
    for field, most in (("groupPriorityMinimum", _MOST_GROUP_PRIORITY), ("versionPriority", _MOST_VERSION_PRIORITY)):
        priority = spec.get(field) or 0
        if not 0 < priority <= most:
            problems.invalid(f"spec.{field}", priority, f"must be positive and less than {most}")


def _local(problems: Problems, spec: JSON) -> None:
    bundle = spec.get("caBundle")
    if bundle:
        shown = f"{len(base64.b64decode(bundle))} bytes"
        problems.invalid("spec.caBundle", shown, "local APIServices may not have a caBundle")
    if spec.get("insecureSkipTLSVerify"):
        detail = "local APIServices may not have insecureSkipTLSVerify"
        problems.invalid("spec.insecureSkipTLSVerify", True, detail)


def _remote(problems: Problems, spec: JSON, service: JSON) -> None:
    problems.need("spec.service", service, "namespace", "name")
    port = service.get("port") or 0
    if errors := names.port_number(port):
        problems.invalid("spec.service.port", port, f"port is not valid: {', '.join(errors)}")
    if spec.get("insecureSkipTLSVerify") and spec.get("caBundle"):
        problems.invalid("spec.insecureSkipTLSVerify", True, "may not be true if caBundle is present")
