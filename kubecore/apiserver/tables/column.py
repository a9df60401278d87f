"""What a table is declared with: columns, each a cell function beside its definition."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from kubecore.apiserver.tables.ages import age

Object = dict[str, Any]
Cell = str | int | float | bool | None
CellFunction = Callable[[Object, datetime], Cell]


class Field(NamedTuple):
    """A field of an API type by its OpenAPI definition ("core.v1.PodSpec"), for what is written about it there."""

    definition: str
    name: str


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `priority` 0 is always shown, 1 only by `-o wide`; `format` "name" marks the object's name.

    `description` is upstream's words, or the field whose description upstream takes."""

    name: str
    cell: CellFunction
    description: str | Field
    type: str = "string"
    format: str = ""
    priority: int = 0

    def definition(self, written: Mapping[Field, str]) -> Object:
        """The TableColumnDefinition of meta.k8s.io/v1; `written` is what the API types say of their fields."""
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": written[self.description] if isinstance(self.description, Field) else self.description,
            "priority": self.priority,
        }


@dataclass(frozen=True, slots=True)
class KindTable:
    """A kind's columns.

    `cells` gives all cells of a row at once for kinds whose cells share work (pods); else each column's function is
    called. `conditions` says which row conditions an object has (a completed pod); `order` sorts the rows of a list,
    which else come as the objects do.
    """

    columns: tuple[Column, ...]
    cells: Callable[[Object, datetime], list[Cell]] | None = None
    conditions: Callable[[Object], list[Object]] | None = None
    order: Callable[[Object], Any] | None = None

    def row_cells(self, obj: Object, now: datetime) -> list[Cell]:
        if self.cells is not None:
            return self.cells(obj, now)
        return [column.cell(obj, now) for column in self.columns]


def name_cell(obj: Object, _now: datetime) -> Cell:
    return str(obj["metadata"].get("name", ""))


NAME = Column("Name", name_cell, Field("meta.v1.ObjectMeta", "name"), format="name")
AGE = Column("Age", age, Field("meta.v1.ObjectMeta", "creationTimestamp"))


def wide(name: str, cell: CellFunction, description: str | Field, *, type: str = "string", format: str = "") -> Column:
    """A column shown by `-o wide` only."""
    return Column(name, cell, description, type, format, 1)


def part(obj: Object, *path: str) -> Any:
    """The value below a path of keys, or None where any step is missing."""
    found: Any = obj
    for key in path:
        if not isinstance(found, dict):
            return None
        found = found.get(key)
    return found


def at(*path: str, default: Cell = "") -> CellFunction:
    """A cell that shows the value at a path as it is."""

    def cell(obj: Object, _now: datetime) -> Cell:
        value = part(obj, *path)
        return default if value is None else value

    return cell


def count(*path: str) -> CellFunction:
    """A cell that counts the entries of the list or map at a path."""

    def cell(obj: Object, _now: datetime) -> Cell:
        return len(part(obj, *path) or ())

    return cell


def format_labels(labels: dict[str, str] | None) -> str:
    """`a=1,b=2`, `<none>` without any. What is written is ordered, and not the keys: `app.x=1,app=2`."""
    if not labels:
        return "<none>"
    return ",".join(sorted(f"{key}={value}" for key, value in labels.items()))


_OPERATORS = {"In": "in", "NotIn": "notin"}


def selector_text(selector: Object | None) -> str:
    """A LabelSelector in the notation of `-l`; empty for none, and for one that selects everything."""
    if selector is None:
        return ""
    terms = [(key, f"{key}={value}") for key, value in (selector.get("matchLabels") or {}).items()]
    for requirement in selector.get("matchExpressions") or []:
        key, operator = requirement["key"], requirement["operator"]
        if operator in _OPERATORS:
            text = f"{key} {_OPERATORS[operator]} ({','.join(sorted(requirement.get('values') or []))})"
        else:
            text = key if operator == "Exists" else f"!{key}"
        terms.append((key, text))
    return ",".join(text for _, text in sorted(terms, key=lambda term: term[0]))


def names_at(*path: str) -> CellFunction:
    """A cell that shows the list of strings at a path."""

    def cell(obj: Object, _now: datetime) -> Cell:
        return ",".join(part(obj, *path) or ())

    return cell


_MOST_SHOWN = 3


def shortened(items: list[str], default: str = "") -> str:
    """The first three, and how many more there are; `default` where there is nothing to show."""
    shown = ",".join(items[:_MOST_SHOWN])
    return f"{shown} + {len(items) - _MOST_SHOWN} more..." if len(items) > _MOST_SHOWN else shown or default


def container_names(containers: list[Object] | None) -> str:
    return ",".join(container.get("name", "") for container in containers or [])


def container_images(containers: list[Object] | None) -> str:
    return ",".join(container.get("image", "") for container in containers or [])


def template_columns(
    *template: str, selector: CellFunction | None = None, selects: str | Field = "", priority: int = 1
) -> tuple[Column, ...]:
    """Containers, Images and, if asked for, Selector of the pod template at a path."""

    def containers(obj: Object, _now: datetime) -> Cell:
        return container_names(part(obj, *template, "spec", "containers"))

    def images(obj: Object, _now: datetime) -> Cell:
        return container_images(part(obj, *template, "spec", "containers"))

    columns = [
        Column("Containers", containers, "Names of each container in the template.", priority=priority),
        Column("Images", images, "Images referenced by each container in the template.", priority=priority),
    ]
    if selector is not None:
        columns.append(Column("Selector", selector, selects, priority=priority))
    return tuple(columns)


def selector_at(*path: str, default: str = "<none>") -> CellFunction:
    """A cell that shows the LabelSelector at a path, `default` where it says nothing."""

    def cell(obj: Object, _now: datetime) -> Cell:
        return selector_text(part(obj, *path)) or default

    return cell


def labels_at(*path: str) -> CellFunction:
    """A cell that shows the map of labels at a path."""

    def cell(obj: Object, _now: datetime) -> Cell:
        return format_labels(part(obj, *path))

    return cell


def condition(obj: Object, type: str) -> Object | None:
    """The status condition of a type, or None."""
    for one in part(obj, "status", "conditions") or []:
        if one.get("type") == type:
            return one  # type: ignore[no-any-return]
    return None


def condition_is_true(obj: Object, type: str) -> bool:
    found = condition(obj, type)
    return found is not None and found.get("status") == "True"
