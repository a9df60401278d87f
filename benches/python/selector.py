"""Label and field selectors: parsing and matching one (criterion), and LIST with a selector over 10,000 pods, of which
100 match. No peer: etcd has no selectors.
"""

from __future__ import annotations

import json

from _criterion import estimates
from _load import h2load
from _payloads import fill_pods
from _report import figures, median, repeated, row
from _servers import Server, kubecore

PODS, MATCHING = 10_000, 100
SELECTORS = {
    "label equality": "labelSelector=tier%3Dfront",
    "label set": "labelSelector=tier+in+(front,edge),!legacy",
    "label and field": "labelSelector=tier%3Dfront&fieldSelector=status.phase%3DPending",
    "field": "fieldSelector=status.phase%3DRunning",
}
EXPECTED = {"field": 0}


def main() -> None:
    for name, found in estimates("selector").items():
        row(f"selector: {name.replace('/', ', ')}", f"{found.quiet:,.0f} ns (median {found.median:,.0f})")
    with kubecore() as ours:
        fill_pods(ours, PODS - MATCHING)
        fill_pods(ours, MATCHING, labels={"app": "bench", "tier": "front"})
        for name, query in SELECTORS.items():
            selected(ours, name, query)


def selected(ours: Server, name: str, query: str) -> None:
    path = f"/api/v1/pods?{query}"
    answer = ours.call("GET", path)
    found = len(json.loads(answer)["items"])
    if found != EXPECTED.get(name, MATCHING):
        raise RuntimeError(f"{path}: {found} pods")
    url, size = f"http://127.0.0.1:{ours.port}{path}", len(answer)
    rounds = repeated(lambda: h2load(ours, url, requests=1_000, clients=4, http1=True, answer_bytes=size))
    each = median([load.cpu_us for load in rounds]) * 1000 / PODS
    row(f"selector: LIST by {name}, {found} of {PODS} pods", f"{figures(rounds)}, {each:.1f} ns a pod")


if __name__ == "__main__":
    main()
