"""Typed helpers over objects as JSON decodes them: names, labels, owners, times.

Objects are plain dicts. What comes out of a cache is shared: copy it (`deepcopy`) before changing it.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from kubecore import _native

JSON = dict[str, Any]

FIELDS = (
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
)
"""What metadata has, in the order of Go's ObjectMeta, in which it shows them."""

_SCALARS = (str, int, float, bool, type(None))


def deepcopy(value: Any) -> Any:
    """A copy of a JSON value that shares nothing mutable with it; several times faster than copy.deepcopy."""
    if isinstance(value, dict):
        return {key: one if type(one) in _SCALARS else deepcopy(one) for key, one in value.items()}
    if isinstance(value, list):
        return [one if type(one) in _SCALARS else deepcopy(one) for one in value]
    return value


def metadata(obj: JSON) -> JSON:
    """The object's metadata, made when missing."""
    found = obj.get("metadata")
    if found is None:
        found = obj["metadata"] = {}
    return found


def name(obj: Mapping[str, Any]) -> str:
    return (obj.get("metadata") or {}).get("name") or ""


def namespace(obj: Mapping[str, Any]) -> str:
    return (obj.get("metadata") or {}).get("namespace") or ""


def key(obj: Mapping[str, Any]) -> str:
    """`namespace/name`, or `name` for an object without namespace: how caches and queues name it."""
    meta = obj.get("metadata") or {}
    space = meta.get("namespace")
    return f"{space}/{meta.get('name') or ''}" if space else (meta.get("name") or "")


def make_key(space: str, object_name: str) -> str:
    return f"{space}/{object_name}" if space else object_name


def split_key(text: str) -> tuple[str, str]:
    """The namespace ("" for none) and name of a `key`."""
    space, slash, rest = text.partition("/")
    return (space, rest) if slash else ("", space)


def uid(obj: Mapping[str, Any]) -> str:
    return (obj.get("metadata") or {}).get("uid") or ""


def resource_version(obj: Mapping[str, Any]) -> str:
    return (obj.get("metadata") or {}).get("resourceVersion") or ""


def generation(obj: Mapping[str, Any]) -> int:
    return (obj.get("metadata") or {}).get("generation") or 0


def labels(obj: Mapping[str, Any]) -> dict[str, str]:
    return (obj.get("metadata") or {}).get("labels") or {}


def annotations(obj: Mapping[str, Any]) -> dict[str, str]:
    return (obj.get("metadata") or {}).get("annotations") or {}


def finalizers(obj: Mapping[str, Any]) -> list[str]:
    return (obj.get("metadata") or {}).get("finalizers") or []


def deletion_timestamp(obj: Mapping[str, Any]) -> str:
    """RFC 3339 time by which the object should be gone, "" while nobody deletes it."""
    return (obj.get("metadata") or {}).get("deletionTimestamp") or ""


def is_deleting(obj: Mapping[str, Any]) -> bool:
    return bool((obj.get("metadata") or {}).get("deletionTimestamp"))


def creation_timestamp(obj: Mapping[str, Any]) -> datetime | None:
    text = (obj.get("metadata") or {}).get("creationTimestamp")
    return parse_time(text) if text else None


# --- Owners


def owner_references(obj: Mapping[str, Any]) -> list[JSON]:
    return (obj.get("metadata") or {}).get("ownerReferences") or []


def same_owners(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two versions of an object have the same owners; those of an informer share the very list."""
    return owner_references(one) == owner_references(other)


def controller_of(obj: Mapping[str, Any]) -> JSON | None:
    """The owner reference that controls the object, or None."""
    references: Iterable[JSON] = (obj.get("metadata") or {}).get("ownerReferences") or ()
    for reference in references:
        if reference.get("controller"):
            return reference
    return None


def is_controlled_by(obj: Mapping[str, Any], owner: Mapping[str, Any]) -> bool:
    reference = controller_of(obj)
    return reference is not None and reference.get("uid") == uid(owner)


def controller_reference(owner: Mapping[str, Any], api_version: str, kind: str) -> JSON:
    """The reference by which `owner` controls an object; it blocks the owner's foreground deletion."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": name(owner),
        "uid": uid(owner),
        "controller": True,
        "blockOwnerDeletion": True,
    }


# --- Conditions


def condition(obj: Mapping[str, Any], kind: str) -> JSON | None:
    """The entry of status.conditions of that type."""
    for entry in (obj.get("status") or {}).get("conditions") or []:
        if entry.get("type") == kind:
            return entry  # type: ignore[no-any-return]
    return None


def condition_patch(obj: Mapping[str, Any], new: JSON) -> JSON:
    """The strategic merge patch of a status that sets one condition in its place, or as the last one."""
    kinds = [entry["type"] for entry in (obj.get("status") or {}).get("conditions") or []]
    if not kinds:
        return {"conditions": [new]}
    order = [{"type": kind} for kind in dict.fromkeys([*kinds, new["type"]])]
    return {"$setElementOrder/conditions": order, "conditions": [new]}


def transition_time(held: Mapping[str, Any] | None, status: str, now: str) -> str:
    """Since when a condition has had its status: since then where it is the one that is held, else from now on."""
    return (held.get("lastTransitionTime") if held and held.get("status") == status else None) or now


def set_condition(obj: JSON, kind: str, status: str, reason: str, message: str, *, now: str) -> None:
    """Puts or replaces a condition; its transition time stays while its status does."""
    holder = obj.setdefault("status", {})
    if holder.get("conditions") is None:
        holder["conditions"] = []
    conditions = holder["conditions"]
    wanted = {"lastTransitionTime": now, "message": message, "reason": reason, "status": status, "type": kind}
    for index, condition in enumerate(conditions):
        if condition["type"] == kind:
            wanted["lastTransitionTime"] = transition_time(condition, status, now)
            conditions[index] = wanted
            return
    conditions.append(wanted)


# --- Times

_SECONDS_LENGTH = len("2006-01-02T15:04:05")


# A second and its text: thousands of times that are told are of the same one. To look a time up by its hash would take
# as long as to write it.
_told: tuple[datetime, str] = (datetime.fromtimestamp(0, UTC), "1970-01-01T00:00:00Z")


def format_time(when: datetime) -> str:
    """metav1.Time: RFC 3339 in UTC, whole seconds."""
    global _told
    if when.tzinfo is not UTC:
        when = when.astimezone(UTC)
    second, text = _told
    since = when - second
    if since.seconds or since.days:
        text = when.isoformat(timespec="seconds")[:_SECONDS_LENGTH] + "Z"
        _told = (when.replace(microsecond=0), text)
    return text


def format_micro_time(when: datetime) -> str:
    """metav1.MicroTime: RFC 3339 in UTC with six digits of fraction."""
    if when.tzinfo is not UTC:
        when = when.astimezone(UTC)
    return f"{format_time(when)[:-1]}.{when.microsecond:06d}Z"


def parse_time(text: str) -> datetime:
    """An aware UTC time from RFC 3339; ValueError when it is none."""
    when = datetime.fromisoformat(text)
    if when.tzinfo is UTC:
        return when
    if when.tzinfo is None:
        raise ValueError(f"time without zone: {text!r}")
    return when.astimezone(UTC)


# --- Generated names

# Without vowels and look-alikes (upstream k8s.io/apimachinery pkg/util/rand).
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
# maxNameLength 63 in upstream names/generate.go, whatever the kind allows.
_MAX_BASE = 63 - 5

random_suffix = _native.random_suffix


def generate_name(base: str) -> str:
    """`base` cut to fit, with 5 random characters."""
    return base[:_MAX_BASE] + random_suffix()


def safe_encode(text: str) -> str:
    """Letters and digits of `text` mapped onto the alphabet of generated names (hashes in names)."""
    return "".join(_ALPHABET[ord(char) % len(_ALPHABET)] for char in text)


# --- Lists


def merge_labels(*parts: Iterable[tuple[str, str]] | Mapping[str, str] | None) -> dict[str, str]:
    """One map from several, later ones winning."""
    merged: dict[str, str] = {}
    for part in parts:
        merged.update(part or {})
    return merged
