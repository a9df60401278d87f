"""An admission webhook that costs as little as one in Python can: `python _webhook.py CERTIFICATE`; says its port.

It allows everything. At /mutate it sets a label, too.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
import sys
from typing import cast

import orjson

_PATCH = base64.b64encode(b'[{"op":"add","path":"/metadata/labels","value":{"hooked":"yes"}}]').decode()


class Webhook(asyncio.Protocol):
    def __init__(self) -> None:
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, double, body = self._data.partition(b"\r\n\r\n")
        if not double:
            return
        length = int(next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))[15:])
        if len(body) < length:
            return
        self._data = body[length:]
        review = orjson.loads(body[:length])
        response = {"uid": review["request"]["uid"], "allowed": True}
        if head.startswith(b"POST /mutate"):
            response |= {"patchType": "JSONPatch", "patch": _PATCH}
        answer = orjson.dumps({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response})
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer)
        )


async def serve(certificate: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = await asyncio.get_running_loop().create_server(Webhook, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve(sys.argv[1]))
