"""`kubecore up` on an empty data dir: time to the ready line, idle memory, idle CPU. No peer: see the targets."""

from __future__ import annotations

import subprocess
import time

from _harness import kubecore, median

RUNS, IDLE_SECONDS = 5, 20


def main() -> None:
    times = []
    for _ in range(RUNS):
        started = time.monotonic()
        with kubecore("up", cpu=None):
            times.append(time.monotonic() - started)
    with kubecore("up", cpu=None) as server:
        time.sleep(5)
        cpu = server.cpu_seconds()
        time.sleep(IDLE_SECONDS)
        share = (server.cpu_seconds() - cpu) / IDLE_SECONDS * 100
        print(
            f"| start | ready in {median(times):.2f} s | idle RSS {server.rss_mib():.0f} MiB | idle CPU {share:.2f}% |"
        )
        threads = subprocess.run(["ps", "-o", "nlwp=", "-p", str(server.process.pid)], capture_output=True, text=True)
        print(f"| start | threads {threads.stdout.strip()} |", flush=True)


if __name__ == "__main__":
    main()
