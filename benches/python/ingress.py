"""The Ingress proxy beside haproxy in HTTP mode, each on one core: requests per CPU second over connections kept
alive on both sides. The load and the one server behind both share the other core.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from _load import Load, h2load
from _report import Target, interleaved, median, ratios, row, spread
from _servers import LOAD_CPU, SERVER_CPU, Server, free_port, pinned, program, require_optimised_build, running, scratch

CLIENTS, REQUESTS = 32, 40_000
SIZES = (("1 KB answers", 1024), ("small answers", 16))
TARGET = Target("requests per CPU-s at least x 1", 1.0, "at least")
_DEFAULTS = """
global
    maxconn 4096
    nbthread 1
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout http-keep-alive 60s
"""
_PROXY = """
frontend bench
    bind 127.0.0.1:{port}
    option forwardfor
    use_backend %[req.hdr(host),field(1,:),lower,map_dom(/dev/null,one)]
backend one
    http-reuse always
    server one 127.0.0.1:{to}
"""
_SERVER = """
frontend bench
    bind 127.0.0.1:{port}
    http-request return status 200 content-type application/octet-stream string {body}
"""


@contextlib.contextmanager
def haproxy(configuration: str, cpu: str, **values: object) -> Iterator[Server]:
    port = free_port()
    with scratch("haproxy-bench-") as folder:
        config = Path(folder) / "haproxy.cfg"
        config.write_text(_DEFAULTS + configuration.format(port=port, **values))
        line = [program("haproxy"), "-db", "-q", "-f", str(config)]
        with running(pinned(cpu, *line), port, Path(folder)) as server:
            yield server


@contextlib.contextmanager
def ours(to: int) -> Iterator[Server]:
    require_optimised_build()
    port, script = free_port(), Path(__file__).with_name("_ingress.py")
    with scratch("ingress-bench-") as folder:
        line = [sys.executable, str(script), str(port), str(to)]
        with running(pinned(SERVER_CPU, *line), port, Path(folder)) as server:
            yield server


def load(proxy: Server, size: int) -> Load:
    url = f"http://127.0.0.1:{proxy.port}/"
    return h2load(proxy, url, requests=REQUESTS, clients=CLIENTS, http1=True, answer_bytes=size)


def told(rounds: list[Load]) -> str:
    per_core, cpu = median([one.per_core for one in rounds]), median([one.cpu_us for one in rounds])
    return f"{per_core:,.0f} per CPU-s, {cpu:.1f} us"


def main() -> None:
    for name, size in SIZES:
        with (
            haproxy(_SERVER, LOAD_CPU, body="x" * size) as server,
            ours(server.port) as mine,
            haproxy(_PROXY, SERVER_CPU, to=server.port) as peer,
        ):
            a, b = interleaved(lambda one=mine, size=size: load(one, size), lambda one=peer, size=size: load(one, size))
            found = ratios(a, b, "per_core")
            verdict = TARGET.verdict(median(found))
            row(
                f"ingress {name}",
                told(a),
                f"haproxy: {told(b)}",
                f"rate per CPU x {spread(found)}",
                TARGET.text,
                verdict,
            )


if __name__ == "__main__":
    main()
