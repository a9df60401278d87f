"""A pod for clients that execute commands in it and have its port 18080 forwarded, which answers `served`."""

from __future__ import annotations

import json
from typing import Any

_PROGRAM = r"""
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"served\n")
http.server.ThreadingHTTPServer((os.environ["KUBECORE_POD_IP"], 18080), Handler).serve_forever()
"""


def serving(container: str) -> dict[str, Any]:
    """The container that answers, which is ready when it does."""
    probe = {"tcpSocket": {"port": 18080}, "periodSeconds": 1}
    return {"name": container, "image": "none", "command": ["python3", "-c", _PROGRAM], "readinessProbe": probe}


def manifest(name: str, *containers: dict[str, Any]) -> str:
    spec = {"terminationGracePeriodSeconds": 0, "containers": containers}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})


STREAMED = manifest("streamed", serving("main"))
