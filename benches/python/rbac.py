"""One decision of RBAC that nobody has kept, among 1,000 roles and 5,000 bindings, ten of them of who asks, who may by
the second one or by none (criterion, one core). No peer; the figure has a target of its own.
"""

from __future__ import annotations

from _criterion import estimates
from _report import Target, row

DECISION = Target("<= 2 us", 2_000, "at most")


def main() -> None:
    for name, found in estimates("rbac").items():
        told = f"{found.quiet:,.0f} ns (median {found.median:,.0f})"
        row(f"rbac: {name.replace('/', ', ')}", told, target=DECISION.text, verdict=DECISION.verdict(found.quiet))


if __name__ == "__main__":
    main()
