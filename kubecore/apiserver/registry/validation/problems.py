"""Collects what is wrong with an object while it is walked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

from kubecore.api.errors import Cause, FieldError, StatusError
from kubecore.apiserver.registry.equality import same

Check = Callable[[str], Sequence[str]]

# So much is told of one object. Upstream tells all of it, in hundreds of megabytes, for a body made to have it so.
MOST_CAUSES, MOST_TEXT = 5_000, 4 << 20


class Enough(StatusError):
    """There is more wrong with an object than is told; `found` is what is told, by whoever knows the object's name."""

    def __init__(self, found: list[Cause]) -> None:
        super().__init__(422, "Invalid", f"{found[0]}, and much more", {"causes": [one.to_dict() for one in found]})
        self.found = found


class Problems(list[Cause]):
    """Causes in the order they were found; each method adds one kind. `path` is like `spec.containers[0].name`.

    Raises Enough when there are `MOST_CAUSES`, or `MOST_TEXT` characters of them."""

    _told = 0

    def append(self, cause: Cause) -> None:
        super().append(cause)
        self._told += len(cause.message) + len(cause.field)
        if len(self) >= MOST_CAUSES or self._told >= MOST_TEXT:
            raise Enough(self)

    def extend(self, causes: Iterable[Cause]) -> None:
        for cause in causes:
            self.append(cause)

    def __iadd__(self, causes: Iterable[Cause]) -> Self:  # type: ignore[override,misc]
        self.extend(causes)
        return self

    def need(self, path: str, holder: Mapping[str, Any], *fields: str) -> None:
        """Fields of `holder` that may not be empty."""
        for field in fields:
            if not holder.get(field):
                self.append(FieldError.required(f"{path}.{field}"))

    def required(self, path: str, detail: str = "") -> None:
        self.append(FieldError.required(path, detail))

    def invalid(self, path: str, value: object, detail: str) -> None:
        self.append(FieldError.invalid(path, value, detail))

    def wrong(self, path: str, detail: str) -> None:
        """Invalid, without the value being shown."""
        self.append(Cause("FieldValueInvalid", f"Invalid value: {detail}", path))

    def forbidden(self, path: str, detail: str) -> None:
        self.append(FieldError.forbidden(path, detail))

    def duplicate(self, path: str, value: object, detail: str = "") -> None:
        self.append(FieldError.duplicate(path, value, detail))

    def unsupported(self, path: str, value: object, allowed: Iterable[str]) -> None:
        """`allowed` is shown in the order given."""
        self.append(FieldError.not_supported(path, value, allowed))

    def not_found(self, path: str, value: object, detail: str = "") -> None:
        self.append(FieldError.not_found(path, value, detail))

    def too_long(self, path: str, maximum: int) -> None:
        self.append(FieldError.too_long(path, maximum))

    def too_many(self, path: str, actual: int, maximum: int) -> None:
        self.append(FieldError.too_many(path, actual, maximum))

    def check(self, path: str, value: str, rule: Check) -> None:
        """Adds an Invalid for everything `rule` finds wrong with a text."""
        for error in rule(value):
            self.append(FieldError.invalid(path, value, error))

    def one_of(self, path: str, value: object, allowed: Sequence[str], *, required: bool = False) -> None:
        """An enumeration, shown in the order given; an absent value is only wrong when it is required."""
        if value in (None, ""):
            if required:
                self.append(FieldError.required(path))
        elif value not in allowed:
            self.append(FieldError.not_supported(path, value, allowed))

    def one_of_if_given(self, path: str, value: object, allowed: Sequence[str]) -> None:
        """An enumeration that may be absent, but not empty: Go points to it."""
        if value is not None and value not in allowed:
            self.append(FieldError.not_supported(path, value, allowed))

    def check_needed(self, path: str, value: str | None, rule: Check) -> None:
        """A text that must be there and right."""
        if not value:
            self.append(FieldError.required(path))
        else:
            self.check(path, value, rule)

    def not_negative(self, path: str, value: object) -> None:
        if isinstance(value, int) and value < 0:
            self.append(FieldError.invalid(path, value, "must be greater than or equal to 0"))

    def positive(self, path: str, value: object) -> None:
        if isinstance(value, int) and value <= 0:
            self.append(FieldError.invalid(path, value, "must be greater than 0"))

    def between(self, path: str, value: object, low: int, high: int) -> None:
        if isinstance(value, int) and not low <= value <= high:
            self.append(FieldError.invalid(path, value, f"must be between {low} and {high}, inclusive"))

    def port(self, path: str, value: object) -> None:
        self.between(path, value, 1, 65535)

    def internal(self, path: str, detail: str) -> None:
        self.append(FieldError.internal(path, detail))

    def unchanged(self, path: str, new: object, old: object) -> None:
        """The field may not change."""
        if not same(new, old):
            self.append(FieldError.invalid(path, new, "field is immutable"))

    def immutable(self, path: str, new: object, old: object) -> None:
        """The field may not change; absent and empty are the same."""
        if new != old and (new or old):
            self.append(FieldError.invalid(path, new, "field is immutable"))
