"""Query options of writes: parsed once per distinct query string, checked in Kubernetes' words."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from kubecore.api import durations, errors
from kubecore.api.errors import Cause, FieldError
from kubecore.api.queries import query_pairs
from kubecore.api.quoting import quoted

STRICT, WARN, IGNORE = "Strict", "Warn", "Ignore"
_VALIDATIONS = (IGNORE, STRICT, WARN)
_MAX_MANAGER = 128
# What a write may take, whatever its client allows it.
LONGEST_SECONDS = 34.0


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """CreateOptions, UpdateOptions and PatchOptions in one; `params` are all query parameters, the last of each."""

    dry_run: bool = False
    field_manager: str = ""
    field_validation: str = WARN
    force: bool | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    """What the client gives the server for it (`timeout`), 0 where it does not say."""


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """metav1.DeleteOptions, checked."""

    grace: int | None = None
    propagation: str = ""
    # orphanDependents, the forerunner of propagation; None where it is not given.
    orphan: bool | None = None
    # Of the object that is meant; None for any, and empty for none that there is.
    uid: str | None = None
    resource_version: str | None = None
    dry_run: bool = False


NO_OPTIONS = WriteOptions()


_KINDS = {"create": "CreateOptions", "update": "UpdateOptions", "patch": "PatchOptions"}


@functools.lru_cache(maxsize=256)
def _parsed(query: str, deletes: bool) -> tuple[WriteOptions, tuple[Cause, ...]]:
    params: dict[str, list[str]] = {}
    for name, value in query_pairs(query):
        params.setdefault(name, []).append(value)
    first = {name: values[0] for name, values in params.items()}
    seconds = _seconds(first.get("timeout", ""))
    causes: list[Cause] = []
    dry_run = params.get("dryRun", [])
    not_dry = [FieldError.not_supported("dryRun", dry_run, ["All"])] if set(dry_run) - {"All"} else []
    if deletes:
        return WriteOptions(dry_run=bool(dry_run), params=MappingProxyType(first), seconds=seconds), tuple(not_dry)
    manager = first.get("fieldManager", "")
    if len(manager) > _MAX_MANAGER:
        causes.append(FieldError.too_long("fieldManager", _MAX_MANAGER))
    odd = next((at for at, char in enumerate(manager) if not char.isprintable()), None)
    if odd is not None:
        detail = f"invalid character U+{ord(manager[odd]):04X} (at position {odd})"
        causes.append(Cause("FieldValueInvalid", f"Invalid value: {quoted(manager)}: {detail}", "fieldManager"))
    causes += not_dry
    validation = first.get("fieldValidation", "") or WARN
    if validation not in _VALIDATIONS:
        causes.append(FieldError.not_supported("fieldValidation", validation, ["", *_VALIDATIONS]))
    force = first.get("force")
    options = WriteOptions(
        dry_run=bool(dry_run),
        field_manager=manager,
        field_validation=validation,
        force=None if force is None else force not in ("false", "0", "f", "F", "False", "FALSE"),
        params=MappingProxyType(first),
        seconds=seconds,
    )
    return options, tuple(causes)


def _seconds(timeout: str) -> float:
    """Raises 400."""
    if not timeout:
        return 0.0
    try:
        return min(max(durations.seconds(timeout), 0.0), LONGEST_SECONDS)
    except ValueError as error:
        raise errors.bad_request(f"invalid timeout specified in the request URL - {error}") from None


def write_options(verb: str, query: str, *, applies: bool | None = None) -> WriteOptions:
    """Options of a create, update or patch; `applies`: of an apply, or of another patch. Raises 400 and 422 for values
    Kubernetes refuses."""
    options, causes = _parsed(query, verb not in _KINDS) if query else (NO_OPTIONS, ())
    if applies and not options.field_manager:
        causes = (FieldError.required("fieldManager", "is required for apply patch"), *causes)
    if applies is False and options.force is not None:
        causes = (FieldError.forbidden("force", "may not be specified for non-apply patch"), *causes)
    if causes:
        raise errors.invalid(_KINDS.get(verb, "DeleteOptions"), "", causes, group="meta.k8s.io")
    return options


def manager_of(options: WriteOptions, user_agent: str) -> str:
    """The field manager: as asked, else what the user agent begins with (upstream fieldmanager prefixFromUserAgent)."""
    return options.field_manager or user_agent.partition("/")[0][:_MAX_MANAGER] or "unknown"
