"""Quantities are stored in canonical form, resources of containers rounded up to thousandths."""

from __future__ import annotations

from typing import Any

from kubecore.api import quantity
from kubecore.api.remembering import remembered

JSON = dict[str, Any]


def canonical_list(resources: JSON | None) -> None:
    """A ResourceList in place. What is no quantity is left for validation to find."""
    if not resources:
        return
    for name, amount in resources.items():
        if isinstance(amount, int | float) and not isinstance(amount, bool):
            amount = str(amount)
        resources[name] = canonical(amount)


def canonical(amount: Any) -> Any:
    """One quantity in canonical form; anything else comes back as it is."""
    return _canonical(amount) if isinstance(amount, str) else amount


@remembered(4096)
def _canonical(amount: str) -> str:
    """The same few are asked for again and again."""
    try:
        shown = quantity.canonical(amount)
        if shown[-1] in "nu":
            # Nothing finer than thousandths is kept of resources.
            shown = quantity.format_nano(quantity.milli(amount) * 10**6)
    except quantity.InvalidQuantity:
        return amount
    return shown


def canonical_requirements(requirements: JSON | None) -> None:
    """Limits and requests in place."""
    if requirements:
        canonical_list(requirements.get("limits"))
        canonical_list(requirements.get("requests"))


def requests_from_limits(requirements: JSON | None) -> None:
    """Where only a limit is given, it is requested too."""
    limits = (requirements or {}).get("limits")
    if requirements is None or not limits:
        return
    requests = requirements.get("requests")
    if requests is None:
        requests = requirements["requests"] = {}
    for name, amount in limits.items():
        requests.setdefault(name, amount)
