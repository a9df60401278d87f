"""Which streaming protocol a client and the kubelet agree on. Pure: headers in, headers out.

After apimachinery `pkg/util/httpstream` (SPDY) and `wsstream` (WebSocket).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kubecore.api import websockets
from kubecore.api.websockets import Headers

_SPDY = "SPDY/3.1"
_VERSIONS = "X-Stream-Protocol-Version"

# Of exec and attach, best first.
_SPDY_CONTAINER = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")
_WEBSOCKET_CONTAINER = {
    "v5.channel.k8s.io": "websocket-closing",
    "v4.channel.k8s.io": "websocket",
    "v4.base64.channel.k8s.io": "websocket-base64",
    "channel.k8s.io": "websocket",
    "base64.channel.k8s.io": "websocket-base64",
    "": "websocket",
}
_SPDY_PORTS = ("portforward.k8s.io",)
_WEBSOCKET_PORTS = {
    "SPDY/3.1+portforward.k8s.io": "spdy-tunnel",
    "v4.channel.k8s.io": "websocket",
    "v4.base64.channel.k8s.io": "websocket-base64",
    "": "websocket",
}


class Refusal(NamedTuple):
    """Why a connection is not switched: a status, text, and headers."""

    status: int
    text: str
    headers: Headers = []


class ProtocolError(Exception):
    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.text)
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class Agreed:
    """`transport` as `_native.serve_container` and `serve_port_forward` call it; `headers` for the answer."""

    transport: str
    protocol: str
    headers: Headers

    @property
    def states_outcome(self) -> bool:
        """The error channel carries a Status; before version 4 it was a text, and nothing when all went well."""
        return self.protocol.startswith(("v4.", "v5."))

    @property
    def resizable(self) -> bool:
        return self.protocol.startswith(("v3.", "v4.", "v5."))

    @property
    def told_inside(self) -> bool:
        """What goes wrong is said in the session, as upstream's API server does for version 5, not before it."""
        return self.protocol.startswith("v5.")


def agree_on_container(headers: Headers) -> Agreed:
    """For exec and attach. Raises ProtocolError."""
    return _agree(headers, spdy=_SPDY_CONTAINER, websocket=_WEBSOCKET_CONTAINER)


def agree_on_ports(headers: Headers) -> Agreed:
    """For port-forward. Raises ProtocolError."""
    return _agree(headers, spdy=_SPDY_PORTS, websocket=_WEBSOCKET_PORTS)


def _agree(headers: Headers, *, spdy: Sequence[str], websocket: Mapping[str, str]) -> Agreed:
    if not websockets.is_websocket(headers):
        protocol, answer = agree_on_spdy(headers, spdy)
        return Agreed("spdy", protocol, answer)
    try:
        protocol, answer = websockets.agree(headers, tuple(websocket))
    except websockets.HandshakeRefused as refused:
        raise ProtocolError(Refusal(refused.status, refused.text)) from refused
    return Agreed(websocket[protocol], protocol, answer)


def agree_on_spdy(headers: Headers, offered: Sequence[str]) -> tuple[str, Headers]:
    told = websockets.values(headers, _VERSIONS.lower())
    if not told:
        _refuse(400, f"unable to upgrade: header {_VERSIONS} does not exist in request with {len(headers)} headers")
    asked = [name for value in told for name in value.replace(",", " ").split()]
    if not asked:
        _refuse(400, f"unable to upgrade: header {_VERSIONS} contains {_go(told)}, but no valid protocols")
    protocol = next((name for name in asked if name in offered), "")
    if not protocol:
        text = "unable to upgrade: unable to negotiate protocol: "
        text += f"client supports {_go(asked)}, server accepts {_go(offered)}"
        accepted = [("X-Accepted-Stream-Protocol-Versions", name) for name in offered]
        raise ProtocolError(Refusal(403, text, accepted))
    upgrades = any(_SPDY.lower() in value.lower() for value in websockets.values(headers, "upgrade"))
    if not (upgrades and websockets.is_upgrade(headers)):
        _refuse(400, "unable to upgrade: missing upgrade headers in request")
    return protocol, [("Connection", "Upgrade"), ("Upgrade", _SPDY), (_VERSIONS, protocol)]


def _go(names: Sequence[str]) -> str:
    """A list as Go prints it."""
    return f"[{' '.join(names)}]"


def _refuse(status: int, text: str) -> None:
    raise ProtocolError(Refusal(status, text))
