"""Resource names and amounts: of containers, pods, quotas and claims.

After kubernetes `pkg/apis/core/validation/validation.go`, validateResourceRequirements, and `pkg/apis/core/helper`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from kubecore.api.quality import nano
from kubecore.api.remembering import remembered
from kubecore.apiserver.registry.defaulting.podresources import aggregate, shown
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]
NameRule = Callable[[str], tuple[str, ...]]

_CONTAINER_RESOURCES = frozenset({"cpu", "memory", "ephemeral-storage"})
_OBJECT_COUNTS = frozenset(
    {
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "services.nodeports",
        "services.loadbalancers",
    }
)
_OF_CONTAINERS = frozenset(f"{kind}{name}" for kind in ("", "requests.", "limits.") for name in _CONTAINER_RESOURCES)
_QUOTA_RESOURCES = _OF_CONTAINERS | _OBJECT_COUNTS | {"requests.storage"}
_STANDARD_RESOURCES = _QUOTA_RESOURCES | {"storage"}
_HUGE_PAGES = "hugepages-"
_NATIVE_DOMAIN = "kubernetes.io/"
_NOT_INTEGER = "must be an integer"
_NANO = 10**9


def is_native(name: str) -> bool:
    return "/" not in name or _NATIVE_DOMAIN in name


@remembered(2048)
def is_extended(name: str) -> bool:
    """A resource of a vendor's device plugin: counted in whole pieces and never overcommitted."""
    if is_native(name) or name.startswith("requests."):
        return False
    return not names.qualified_name(f"requests.{name}")


def is_huge_pages(name: str) -> bool:
    return name.startswith(_HUGE_PAGES)


def is_standard_for_quota(name: str) -> bool:
    return name in _QUOTA_RESOURCES or name.startswith((_HUGE_PAGES, f"requests.{_HUGE_PAGES}"))


def is_standard(name: str) -> bool:
    return name in _STANDARD_RESOURCES or name.startswith((_HUGE_PAGES, f"requests.{_HUGE_PAGES}"))


def overcommits(name: str) -> bool:
    """Requests may add up to more than there is."""
    return is_native(name) and not is_huge_pages(name)


def _is_counted(name: str) -> bool:
    return name in _OBJECT_COUNTS or is_extended(name)


# --- names


@remembered(2048)
def _standard_name(name: str) -> tuple[str, ...]:
    errors = names.qualified_name(name)
    if not errors and "/" not in name and not is_standard(name):
        errors = ["must be a standard resource type or fully qualified"]
    return tuple(errors)


@remembered(2048)
def _container_name(name: str) -> tuple[str, ...]:
    errors = _standard_name(name)
    if "/" not in name:
        if name not in _CONTAINER_RESOURCES and not is_huge_pages(name):
            errors = (*errors, "must be a standard resource for containers")
    elif not is_native(name) and not is_extended(name):
        errors = (*errors, "doesn't follow extended resource name standard")
    return errors


def validate_resource_name(problems: Problems, name: str, path: str) -> bool:
    """A name in a quota's or a node's list: standard, or with a domain. Says whether it is right."""
    errors = _standard_name(name)
    for error in errors:
        problems.invalid(path, name, error)
    return not errors


def validate_container_resource_name(problems: Problems, name: str, path: str) -> None:
    for error in _container_name(name):
        problems.invalid(path, name, error)


# --- amounts. What is no quantity has been refused by the decoder.


def validate_positive_amount(problems: Problems, amount: object, path: str) -> None:
    if nano(amount) <= 0:
        problems.invalid(path, str(amount), names.POSITIVE)


def validate_basic_amount(problems: Problems, amount: object, path: str) -> None:
    """Not negative, in the words of volumes; upstream shows whole units."""
    whole = -(-nano(amount) // _NANO)
    if whole < 0:
        problems.invalid(path, whole, "must be a valid resource quantity")


def validate_resource_amount(problems: Problems, name: str, amount: object, path: str) -> None:
    """Not negative, and whole where the resource is counted in pieces."""
    amount_nano = nano(amount)
    if amount_nano < 0:
        problems.invalid(path, str(amount), names.NOT_NEGATIVE)
    if amount_nano % _NANO and _is_counted(name):
        problems.invalid(path, amount, _NOT_INTEGER)


def validate_requirements(
    problems: Problems,
    requirements: JSON | None,
    path: str,
    *,
    claims: Collection[str] = (),
    name_rule: NameRule = _container_name,
) -> None:
    """Limits, requests and claims: known names, sane amounts, no request above its limit.

    `claims` are the names of the pod's claims."""
    if not requirements:
        return
    limits, requests = requirements.get("limits"), requirements.get("requests")
    if limits:
        _resource_list(problems, limits, f"{path}.limits", name_rule)
    if requests:
        _resource_list(problems, requests, f"{path}.requests", name_rule)
        _against_limits(problems, requests, limits or {}, path)
    mentioned = (limits or {}).keys() | (requests or {}).keys()
    if any(map(is_huge_pages, mentioned)) and not mentioned & {"cpu", "memory"}:
        problems.forbidden(path, "HugePages require cpu or memory")
    if requirements.get("claims"):
        _claims(problems, requirements["claims"], f"{path}.claims", claims)


def _resource_list(problems: Problems, resources: JSON, path: str, name_rule: NameRule) -> None:
    for name, amount in resources.items():
        errors = name_rule(name)
        where = f"{path}[{name}]"
        for error in errors:
            problems.invalid(where, name, error)
        validate_resource_amount(problems, name, amount, where)
        if is_huge_pages(name):
            size = name.removeprefix(_HUGE_PAGES)
            page = nano(size)
            if page <= 0 or page % _NANO or -(-nano(amount) // _NANO) % (page // _NANO):
                problems.invalid(where, str(amount), f"{amount} is not positive integer multiple of {name}")


def _against_limits(problems: Problems, requests: JSON, limits: JSON, path: str) -> None:
    for name, amount in requests.items():
        limit = limits.get(name)
        if limit is None:
            if not overcommits(name):
                problems.required(f"{path}.limits", "Limit must be set for non overcommitable resources")
        elif amount == limit:
            continue
        elif not overcommits(name) and nano(amount) != nano(limit):
            problems.invalid(f"{path}.requests", str(amount), f"must be equal to {name} limit of {limit}")
        elif nano(amount) > nano(limit):
            problems.invalid(f"{path}.requests", str(amount), f"must be less than or equal to {name} limit of {limit}")


def _claims(problems: Problems, claims: list[JSON], path: str, known: Collection[str]) -> None:
    """Device claims of a container: each once, whole or by request."""
    taken: set[str] = set()
    for index, claim in enumerate(claims):
        where, name, request = f"{path}[{index}]", claim.get("name") or "", claim.get("request") or ""
        if not name:
            problems.required(where)
            continue
        key = f"{name}/{request}" if request else name
        if name in taken:
            problems.duplicate(where, name)
        else:
            if request:
                problems.check(f"{where}.request", request, names.dns_label)
            if key in taken:
                problems.duplicate(where, key)
            elif not request and any(one.startswith(f"{name}/") for one in taken):
                problems.duplicate(where, name)
            taken.add(key)
        if name not in known:
            listed = f": {', '.join(sorted(known))}" if known else " which is empty"
            problems.not_found(where, name, f"must be one of the names in pod.spec.resourceClaims{listed}")


_POD_LEVEL = ("cpu", "hugepages-", "memory")


@remembered(256)
def _pod_level_name(name: str) -> tuple[str, ...]:
    return _standard_name(name)


def validate_pod_requirements(problems: Problems, spec: JSON, path: str, claims: Collection[str]) -> None:
    """Resources of a whole pod, and how its containers' fit in."""
    whole = spec.get("resources")
    if whole is None:
        return
    if (spec.get("os") or {}).get("name") == "windows":
        problems.forbidden(path, "may not be set for a windows pod")
        return
    if whole.get("claims"):
        problems.forbidden(f"{path}.claims", "claims may not be set for Resources at pod-level")
    for kind in ("limits", "requests"):
        for name in whole.get(kind) or {}:
            if not _pod_level_name(name) and name not in ("cpu", "memory") and not is_huge_pages(name):
                problems.unsupported(f"{path}.{kind}[{name}]", name, _POD_LEVEL)
    validate_requirements(problems, whole, path, claims=claims, name_rule=_pod_level_name)
    _aggregates(problems, spec, whole, path)


def _aggregates(problems: Problems, spec: JSON, whole: JSON, path: str) -> None:
    requests, limits = whole.get("requests") or {}, whole.get("limits") or {}
    for name, amount in aggregate(spec, "requests").items():
        if name in requests and amount > nano(requests[name]):
            detail = f"must be greater than or equal to aggregate container requests of {shown(name, amount)}"
            problems.invalid(f"{path}.requests[{name}]", str(requests[name]), detail)
    for name, amount in aggregate(spec, "limits").items():
        if is_huge_pages(name) and name in limits and amount > nano(limits[name]):
            detail = f"must be greater than or equal to aggregate container limits of {shown(name, amount)}"
            problems.invalid(f"{path}.limits[{name}]", str(limits[name]), detail)
    for index, container in enumerate(spec.get("containers") or []):
        for name, amount in ((container.get("resources") or {}).get("limits") or {}).items():
            if name in limits and nano(amount) > nano(limits[name]):
                where = f"{path}.containers[{index}][{name}].limits"
                problems.invalid(where, str(amount), f"must be less than or equal to pod limits of {limits[name]}")
