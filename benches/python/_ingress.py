"""A process with nothing but kubecore's Ingress proxy in it: `_ingress.py PORT TO` leads 127.0.0.1:PORT to TO."""

from __future__ import annotations

import signal
import sys

from kubecore import _native

port, to = int(sys.argv[1]), int(sys.argv[2])
proxy = _native.IngressProxy()
proxy.set_backend("bench", [("127.0.0.1", to, 1)])
proxy.set_hosts([("", ([(False, "/", "bench", "bench")], None))])
proxy.listen("127.0.0.1", port)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
signal.pause()
