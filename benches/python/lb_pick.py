"""One pick among 100 destinations, for each scheduler, with 1,000 connections open; a look-up among a million tracked
connections (criterion, one core)."""

from __future__ import annotations

from _criterion import estimates
from _report import Target, row

HASHED = Target("<= 10 ns", 10, "at most")
LEAST = Target("<= 60 ns", 60, "at most")
FLOWS = Target("<= 60 ns", 60, "at most")
TARGETS = {"rr": HASHED, "sh": HASHED, "dh": HASHED, "mh": HASHED, "lc": LEAST, "wlc": LEAST, "sed": LEAST}


def main() -> None:
    found = estimates("lb_pick")
    for name, pick in found.items():
        group, _, scheduler = name.partition("/")
        if group != "lb_pick":
            continue
        whole = found[f"lb_connect_and_close/{scheduler}"]
        told = f"{pick.quiet:.1f} ns a pick (median {pick.median:.1f}), {whole.quiet:.0f} ns a counted connection"
        target = TARGETS.get(scheduler)
        text, verdict = (target.text, target.verdict(pick.quiet)) if target else ("", "")
        row(f"lb-pick {scheduler}", told, target=text, verdict=verdict)
    whole = found["lb_connect_and_close/affinity"]
    row("lb-pick, session affinity", f"{whole.quiet:.0f} ns a counted connection of one of 10,000 known clients")
    flow = found["lb_flows/look_up"]
    told = f"{flow.quiet:.1f} ns (median {flow.median:.1f})"
    row("lb-pick, a look-up among 1M flows", told, target=FLOWS.text, verdict=FLOWS.verdict(flow.quiet))


if __name__ == "__main__":
    main()
