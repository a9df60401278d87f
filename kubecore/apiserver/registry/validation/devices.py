"""Devices of dynamic resource allocation: what they and their drivers are called, and how they are configured.

After kubernetes `pkg/apis/resource/validation/validation.go`. Fields whose feature v1.35 does not switch on (taints and
tolerations of devices, counters, capacity that is shared, conditions for binding) are dropped before they are checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import orjson

from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.expressions import check_device_selector
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.volume_sources import validate_driver_name

JSON = dict[str, Any]

_POOL_NAME, _ID = 253, 32
_SELECTORS, _EXPRESSION = 32, 10 * 1024
_PARAMETERS = 10 * 1024
_C_IDENTIFIER = "[A-Za-z_][A-Za-z0-9_]*"
_C_IDENTIFIER_RE = re.compile(_C_IDENTIFIER)
_C_IDENTIFIER_WRONG = names.by_pattern(
    "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric "
    "characters or '_'",
    _C_IDENTIFIER,
    "my_name",
    "MY_NAME",
    "MyName",
)
_ADMIN_LABEL = "resource.kubernetes.io/admin-access"


def validate_each(
    problems: Problems,
    items: Sequence[Any],
    path: str,
    check: Callable[[Any, str], None],
    *,
    most: int,
    key: Callable[[Any], Hashable] | None = None,
) -> None:
    """A list of at most `most` items, a set of them with `key`. One that is too long is looked at no further."""
    if len(items) > most:
        problems.too_many(path, len(items), most)
        return
    taken: set[Hashable] = set()
    for index, item in enumerate(items):
        check(item, f"{path}[{index}]")
        if key is None:
            continue
        if key(item) in taken:
            problems.duplicate(f"{path}[{index}]", key(item))
        taken.add(key(item))


def named(item: JSON) -> str:
    return item.get("name") or ""


# --- names


def validate_pool_name(problems: Problems, name: str, path: str) -> None:
    """Subdomains, separated by slashes."""
    if not name:
        problems.required(path)
        return
    if len(name.encode()) > _POOL_NAME:
        problems.too_long(path, _POOL_NAME)
    for part in name.split("/"):
        problems.check(path, part, names.dns_subdomain)


def validate_attribute_name(problems: Problems, name: str, path: str, *, qualified: bool = False) -> None:
    """An identifier of C, after the domain of whoever means something by it, which only `qualified` ones need."""
    domain, slash, identifier = name.partition("/")
    if not slash:
        _identifier(problems, name, path)
    elif "/" not in identifier:
        if not domain:
            problems.invalid(path, "", "the domain must not be empty")
        else:
            validate_driver_name(problems, domain, path)
        if not identifier:
            problems.invalid(path, "", "the name must not be empty")
        else:
            _identifier(problems, identifier, path)
    if qualified and not slash:
        problems.invalid(path, name, "a fully qualified name must be a domain and a name separated by a slash")


def _identifier(problems: Problems, name: str, path: str) -> None:
    if len(name.encode()) > _ID:
        problems.too_long(path, _ID)
    if _C_IDENTIFIER_RE.fullmatch(name) is None:
        problems.invalid(path, name, _C_IDENTIFIER_WRONG)


# --- selectors and configuration


def validate_selectors(problems: Problems, selectors: Sequence[JSON], path: str) -> None:
    def check(selector: JSON, path: str) -> None:
        cel = selector.get("cel")
        if cel is None:
            problems.required(f"{path}.cel")
        elif len((cel.get("expression") or "").encode()) > _EXPRESSION:
            problems.too_long(f"{path}.cel.expression", _EXPRESSION)
        else:
            check_device_selector(problems, cel.get("expression") or "", f"{path}.cel.expression")

    validate_each(problems, selectors, path, check, most=_SELECTORS)


def validate_configuration(problems: Problems, config: JSON, path: str, *, stored: bool = False) -> None:
    """`stored` ones may be longer than what is allowed now."""
    opaque = config.get("opaque")
    if opaque is None:
        problems.required(f"{path}.opaque")
        return
    validate_driver_name(problems, opaque.get("driver"), f"{path}.opaque.driver")
    validate_raw(problems, opaque.get("parameters"), f"{path}.opaque.parameters", _PARAMETERS, stored=stored)


def validate_raw(problems: Problems, value: Any, path: str, most: int, *, stored: bool = False) -> None:
    """An object of any kind, of at most `most` bytes."""
    if value is None:
        problems.required(path)
    elif not stored and len(orjson.dumps(value)) > most:
        problems.too_long(path, most)
    elif not isinstance(value, dict):
        problems.invalid(path, "<value omitted>", "must be a valid JSON object")


def validate_admin_access(problems: Problems, namespace: JSON | None, path: str) -> None:
    """Somebody wants to get at devices that are others': only in a namespace that is meant for that."""
    if (((namespace or {}).get("metadata") or {}).get("labels") or {}).get(_ADMIN_LABEL) != "true":
        needed = f"requires the `{_ADMIN_LABEL}: true` label on the containing namespace"
        problems.forbidden(path, f"admin access to devices {needed}")


# --- taints


def validate_taint(problems: Problems, taint: JSON, old: JSON | None, path: str) -> None:
    """An effect that stays is let be."""
    problems.check(f"{path}.key", taint.get("key") or "", names.qualified_name)
    if taint.get("value"):
        problems.check(f"{path}.value", taint["value"], names.label_value)
    if old is None or taint.get("effect") != old.get("effect"):
        effects = ("NoExecute", "NoSchedule", "None")
        problems.one_of(f"{path}.effect", taint.get("effect"), effects, required=True)


def validate_taint_selector(problems: Problems, selector: JSON, path: str) -> None:
    if selector.get("driver") is not None:
        validate_driver_name(problems, selector["driver"], f"{path}.driver")
    if selector.get("pool") is not None:
        validate_pool_name(problems, selector["pool"], f"{path}.pool")
    if selector.get("device") is not None:
        problems.check(f"{path}.device", selector["device"], names.dns_label)
