"""What the API is, in small: ConfigMaps of one namespace, who owns their keys, and every state there was.

Semantics: Kubernetes' API conventions, KEP-555 (server-side apply) and k8s.io/apiserver pkg/registry/rest/delete.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field

GC_FINALIZERS = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}

# A manager and how it writes: Update or Apply.
Owner = tuple[str, str]


@dataclass
class Stored:
    """`owners` of each key of the data; `notes` of managers that have applied, an annotation each: an object without
    any managed field is not tracked until the next apply, which is not modelled."""

    uid: str
    version: str
    data: dict[str, str]
    label: str
    finalizers: list[str] = field(default_factory=list)
    deleting: bool = False
    owners: dict[str, set[Owner]] = field(default_factory=dict)
    notes: set[str] = field(default_factory=set)

    def matches(self, label: str) -> bool:
        """An empty label selects everything."""
        return not label or self.label == label


@dataclass(frozen=True)
class Happened:
    """An event of the history."""

    name: str
    before: Stored | None
    after: Stored | None

    def seen(self, label: str) -> tuple[str, Stored] | None:
        """As a watch that selects by the label has it: its type and the object."""
        was = self.before is not None and self.before.matches(label)
        if self.after is not None and self.after.matches(label):
            return ("MODIFIED" if was else "ADDED"), self.after
        if was and self.before is not None:
            return "DELETED", self.before
        return None


class Model:
    def __init__(self) -> None:
        self.objects: dict[str, Stored] = {}
        self.history: list[Happened] = []

    def put(self, name: str, after: Stored | None) -> None:
        """Records a change; None: the object is gone."""
        self.history.append(Happened(name, deepcopy(self.objects.get(name)), deepcopy(after)))
        if after is None:
            del self.objects[name]
        else:
            self.objects[name] = after

    def selected(self, label: str) -> list[str]:
        return sorted(name for name, obj in self.objects.items() if obj.matches(label))


def replaced(obj: Stored, data: Mapping[str, str], label: str, manager: str) -> Stored:
    """After an update or a patch: what it changed is the manager's alone, what it removed is nobody's."""
    after = deepcopy(obj)
    after.data, after.label = dict(data), label
    after.owners = {key: owners for key, owners in after.owners.items() if key in data}
    for key, value in data.items():
        if obj.data.get(key) != value:
            after.owners[key] = {(manager, "Update")}
    return after


def conflicts(obj: Stored, config: Mapping[str, str], manager: str) -> list[str]:
    """The keys that an apply would take from others."""
    me = (manager, "Apply")
    changed = [key for key, value in config.items() if obj.data.get(key) != value]
    return sorted(key for key in changed if obj.owners.get(key, set()) - {me})


def applied(obj: Stored, config: Mapping[str, str], manager: str) -> Stored:
    """After a forced apply, or one without conflicts."""
    me = (manager, "Apply")
    after = deepcopy(obj)
    after.notes.add(manager)
    for key, value in config.items():
        same = obj.data.get(key) == value
        after.owners[key] = (obj.owners.get(key, set()) if same else set()) | {me}
        after.data[key] = value
    for key in obj.data.keys() - config.keys():
        if me in obj.owners.get(key, set()):
            after.owners[key] = obj.owners[key] - {me}
            if not after.owners[key]:
                del after.data[key], after.owners[key]
    return after


def deleted(obj: Stored, policy: str) -> Stored | None:
    """After a deletion: None where nothing holds the object."""
    after = deepcopy(obj)
    if policy:
        after.finalizers = [one for one in after.finalizers if one not in GC_FINALIZERS.values()]
        after.finalizers += [GC_FINALIZERS[policy]] if policy in GC_FINALIZERS else []
    after.deleting = True
    return after if after.finalizers else None
