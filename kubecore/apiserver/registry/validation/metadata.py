"""ObjectMeta, for all kinds: names, labels, annotations, owners, finalizers, and what an update may not change.

After k8s.io/apimachinery `pkg/api/validation/objectmeta.go`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from kubecore._native import is_plain_metadata
from kubecore.api.errors import Cause
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

ANNOTATIONS_LIMIT = 256 * 1024
STANDARD_FINALIZERS = frozenset({"kubernetes", "orphan", "foregroundDeletion"})
_IMMUTABLE = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")


def validate_metadata(
    obj: JSON,
    *,
    namespaced: bool,
    name_errors: Callable[[str], list[str]] | None = None,
    any_finalizer: bool = False,
    checks_generate_name: bool = True,
) -> list[Cause]:
    """What is wrong with an object's metadata by itself.

    `name_errors` says what the kind allows as a name; None means an RFC 1123 subdomain. `any_finalizer`: finalizers of
    one's own need no domain (definitions and custom resources).
    """
    meta = obj.get("metadata") or {}
    problems = Problems()
    if name_errors is None and is_plain_metadata(meta, namespaced):
        return problems
    rule = name_errors or names.dns_subdomain
    generate_name = meta.get("generateName")
    if generate_name and checks_generate_name:
        for error in rule(names.as_prefix(generate_name)):
            problems.invalid("metadata.generateName", generate_name, error)
    name = meta.get("name")
    if not name:
        problems.required("metadata.name", "name or generateName is required")
    else:
        problems.check("metadata.name", name, rule)
    _namespace(problems, meta.get("namespace"), namespaced)
    problems.not_negative("metadata.generation", meta.get("generation"))
    if labels := meta.get("labels"):
        validate_labels(problems, labels, "metadata.labels")
    if annotations := meta.get("annotations"):
        validate_annotations(problems, annotations, "metadata.annotations")
    if owners := meta.get("ownerReferences"):
        _owner_references(problems, owners)
    if finalizers := meta.get("finalizers"):
        validate_finalizers(problems, finalizers, any_finalizer=any_finalizer)
    return problems


def _namespace(problems: Problems, namespace: str | None, namespaced: bool) -> None:
    if not namespaced:
        if namespace:
            problems.forbidden("metadata.namespace", "not allowed on this type")
    elif not namespace:
        problems.required("metadata.namespace")
    else:
        problems.check("metadata.namespace", namespace, names.dns_label)


def validate_labels(problems: Problems, labels: JSON, path: str) -> None:
    """A map of labels, of an object, a template or a selector."""
    listed = tuple(labels.items())
    few = len(listed) <= _FEW_LABELS and all(len(key) + len(value) <= _SHORT_LABEL for key, value in listed)
    # No others are kept: a client can send as many and as long ones as it likes.
    for text, error in (_remembered_faults if few else _faults)(listed):
        problems.invalid(path, text, error)


def _faults(labels: tuple[tuple[str, str], ...]) -> Iterator[tuple[str, str]]:
    """(a key or value, what is wrong with it)."""
    for key, value in labels:
        yield from ((key, error) for error in names.qualified_name(key))
        yield from ((value, error) for error in names.label_value(value))


# Many objects have the same labels.
_FEW_LABELS, _SHORT_LABEL = 32, 380


@lru_cache(maxsize=4096)
def _remembered_faults(labels: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return tuple(_faults(labels))


def validate_annotations(problems: Problems, annotations: JSON, path: str) -> None:
    size = 0
    for key, value in annotations.items():
        for error in names.qualified_name(key.lower()):
            problems.invalid(path, key, error)
        size += len(key.encode()) + len(value.encode())
    if size > ANNOTATIONS_LIMIT:
        problems.too_long(path, ANNOTATIONS_LIMIT)


# What a template of objects may say of their metadata.
_IN_TEMPLATES = ("annotations", "labels")


def validate_template_metadata(problems: Problems, metadata: JSON, path: str) -> None:
    """Of a template for objects that others name: only labels and annotations are kept."""
    validate_annotations(problems, metadata.get("annotations") or {}, f"{path}.annotations")
    validate_labels(problems, metadata.get("labels") or {}, f"{path}.labels")
    for field, value in metadata.items():
        if field not in _IN_TEMPLATES and value is not None:
            # What upstream makes of the Go field's name.
            problems.forbidden(f"{path}.{'uID' if field == 'uid' else field}", "cannot be set")


def _owner_references(problems: Problems, owners: list[JSON]) -> None:
    path, controller = "metadata.ownerReferences", None
    for owner in owners:
        api_version, kind = owner.get("apiVersion", ""), owner.get("kind", "")
        if not api_version.rpartition("/")[2]:
            problems.invalid(f"{path}.apiVersion", api_version, "version must not be empty")
        for field in ("kind", "name", "uid"):
            if not owner.get(field):
                problems.invalid(f"{path}.{field}", owner.get(field, ""), "must not be empty")
        if (api_version, kind) == ("v1", "Event"):
            problems.invalid(path, owner, "/v1, Kind=Event is disallowed from being an owner")
        if owner.get("controller"):
            this = f"{kind}/{owner.get('name')}"
            if controller is not None:
                found = f'Found "true" in references for {controller} and {this}'
                detail = f"Only one reference can have Controller set to true. {found}"
                problems.invalid(path, owners, detail)
            controller = controller or this


def validate_finalizers(problems: Problems, finalizers: list[str], *, any_finalizer: bool) -> None:
    """`any_finalizer`: those of one's own need no domain."""
    path = "metadata.finalizers"
    for index, finalizer in enumerate(finalizers):
        problems.check(path, finalizer, names.qualified_name)
        if not any_finalizer and "/" not in finalizer and finalizer not in STANDARD_FINALIZERS:
            detail = "name is neither a standard finalizer name nor is it fully qualified"
            problems.invalid(f"{path}[{index}]", finalizer, detail)
    if {"orphan", "foregroundDeletion"} <= set(finalizers):
        detail = "finalizer orphan and foregroundDeletion cannot be both set"
        problems.invalid(path, finalizers, detail)


def validate_metadata_update(obj: JSON, old: JSON) -> list[Cause]:
    """What an update changes in metadata that it may not. Metadata itself is checked by `validate_metadata`."""
    new, before = obj.get("metadata") or {}, old.get("metadata") or {}
    problems = Problems()
    if before.get("deletionTimestamp"):
        kept = set(before.get("finalizers") or ())
        added = [one for one in new.get("finalizers") or () if one not in kept]
        if added:
            listed = "[]string{" + ", ".join(f'"{one}"' for one in sorted(added)) + "}"
            detail = f"no new finalizers can be added if the object is being deleted, found new finalizers {listed}"
            problems.forbidden("metadata.finalizers", detail)
    if (new.get("generation") or 0) < (before.get("generation") or 0):
        problems.invalid("metadata.generation", new.get("generation") or 0, "must not be decremented")
    for field in _IMMUTABLE:
        if (now := new.get(field)) != (was := before.get(field)):
            problems.immutable(f"metadata.{field}", now, was)
    return problems
