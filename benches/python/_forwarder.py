"""A process with nothing but kubecore's forwarder in it: `_forwarder.py PORT TO` carries 127.0.0.1:PORT to TO."""

from __future__ import annotations

import signal
import sys

from kubecore import _native

port, to = int(sys.argv[1]), int(sys.argv[2])
balancer = _native.Balancer()
balancer.put_service("TCP", "127.0.0.1", port)
balancer.set_destinations("TCP", "127.0.0.1", port, [("127.0.0.1", to, 1)])
forwarder = _native.Forwarder(balancer)
forwarder.listen("TCP", "127.0.0.1", port)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
signal.pause()
