"""Label and field selectors in Kubernetes' grammar; the facade of the Rust ones, which the watch cache uses too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubecore import _native


class Selector:
    """A label selector; immutable, hashable."""

    __slots__ = ("_native",)

    def __init__(self, native: _native.LabelSelector) -> None:
        self._native = native

    @classmethod
    def parse(cls, text: str) -> Selector:
        """From the query parameter form, `a=b,c in (d,e),!f`. ValueError in the words of labels.Parse."""
        return cls(_native.LabelSelector.parse(text))

    @classmethod
    def from_label_selector(cls, selector: Mapping[str, Any] | None) -> Selector:
        """From a metav1.LabelSelector: None selects nothing, an empty one everything. ValueError."""
        return cls(_native.LabelSelector.from_label_selector(selector))

    @classmethod
    def from_set(cls, labels: Mapping[str, str] | None) -> Selector:
        """Selects what has all of `labels`, as the selectors of Services do; with none of them, everything."""
        return cls(_native.LabelSelector.from_label_selector({"matchLabels": dict(labels or {})}))

    @classmethod
    def everything(cls) -> Selector:
        return cls(_native.LabelSelector.parse(""))

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        return self._native.matches(labels)

    @property
    def empty(self) -> bool:
        """Selects everything."""
        return self._native.empty

    def __str__(self) -> str:
        """The query parameter form."""
        return str(self._native)

    def __repr__(self) -> str:
        return f"Selector({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Selector) and self._native == other._native

    def __hash__(self) -> int:
        return hash(self._native)


def as_go_prints(selector: Mapping[str, Any] | None) -> str:
    """A metav1.LabelSelector in messages of Kubernetes' controllers."""
    if selector is None:
        return "nil"
    labels = "".join(f"{name}: {value}," for name, value in sorted((selector.get("matchLabels") or {}).items()))
    terms = ""
    for one in selector.get("matchExpressions") or ():
        values = " ".join(one.get("values") or ())
        terms += f"LabelSelectorRequirement{{Key:{one['key']},Operator:{one['operator']},Values:[{values}],}},"
    inside = f"MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{terms}}},"
    return f"&LabelSelector{{{inside}}}"


class FieldSelector:
    """A field selector over an object's selectable fields; immutable."""

    __slots__ = ("_native",)

    def __init__(self, native: _native.FieldSelector) -> None:
        self._native = native

    @classmethod
    def parse(cls, text: str) -> FieldSelector:
        r"""From the query parameter form, `a=b,c!=d`, with `\` before `\`, `,` and `=` in values. ValueError."""
        return cls(_native.FieldSelector.parse(text))

    def matches(self, fields: Mapping[str, str]) -> bool:
        """Fields that are missing count as empty."""
        return self._native.matches(fields)

    def requirements(self) -> list[tuple[str, str, str]]:
        """(field, "=" or "!=", value) each."""
        return self._native.requirements()

    @property
    def empty(self) -> bool:
        return self._native.empty

    def __str__(self) -> str:
        return str(self._native)

    def __repr__(self) -> str:
        return f"FieldSelector({str(self)!r})"
