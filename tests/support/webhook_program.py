"""An admission webhook as a process of its own: `python webhook_program.py CERTIFICATE`; says its port when it listens.

It refuses what is labelled `refuse`, with the label's value, and annotates everything else (`hooked: OPERATION`).
"""

from __future__ import annotations

import base64
import json
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def decided(request: dict[str, Any]) -> dict[str, Any]:
    metadata = (request["object"] or {}).get("metadata") or {}
    refused = (metadata.get("labels") or {}).get("refuse")
    if refused:
        return {"allowed": False, "status": {"code": 403, "reason": "Forbidden", "message": refused}}
    answer: dict[str, Any] = {"allowed": True}
    if request["object"] is not None:
        annotations = {**(metadata.get("annotations") or {}), "hooked": request["operation"]}
        patch = [{"op": "add", "path": "/metadata/annotations", "value": annotations}]
        answer |= {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(patch).encode()).decode()}
    return answer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        response = {"uid": review["request"]["uid"], **decided(review["request"])}
        body = json.dumps({**{name: review[name] for name in ("apiVersion", "kind")}, "response": response}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is told."""


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1])
    server.socket = context.wrap_socket(server.socket, server_side=True)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
