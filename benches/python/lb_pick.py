"""One pick among 100 destinations, for each scheduler, with 1,000 connections open (criterion, one core)."""

from __future__ import annotations

from _criterion import estimates
from _report import Target, row

HASHED = Target("<= 10 ns", 10, "at most")
LEAST = Target("<= 60 ns", 60, "at most")
TARGETS = {"sh": HASHED, "dh": HASHED, "mh": HASHED, "lc": LEAST, "wlc": LEAST, "sed": LEAST}


def main() -> None:
    found = estimates("lb_pick")
    for name, nanoseconds in found.items():
        group, _, scheduler = name.partition("/")
        if group != "lb_pick":
            continue
        whole = found.get(f"lb_connect_and_close/{scheduler}")
        target = TARGETS.get(scheduler)
        told = f"{nanoseconds:.1f} ns a pick" + (f", {whole:.1f} ns a counted connection" if whole else "")
        row(
            f"lb-pick {scheduler}",
            told,
            target=target.text if target else "",
            verdict=target.verdict(nanoseconds) if target else "",
        )


if __name__ == "__main__":
    main()
