"""Which protocol a client and the kubelet agree on."""

from __future__ import annotations

import pytest

from kubecore.kubelet.serving.stream_protocols import ProtocolError, agree_on_container, agree_on_ports

SPDY = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")]
WEBSOCKET = [
    ("connection", "keep-alive, Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
]


def asking(*protocols: str) -> list[tuple[str, str]]:
    return [("x-stream-protocol-version", name) for name in protocols]


def test_the_first_protocol_that_both_speak_is_taken() -> None:
    agreed = agree_on_container([*SPDY, *asking("v9.channel.k8s.io", "v4.channel.k8s.io,v3.channel.k8s.io")])
    assert (agreed.transport, agreed.protocol) == ("spdy", "v4.channel.k8s.io")
    assert ("X-Stream-Protocol-Version", "v4.channel.k8s.io") in agreed.headers


def test_a_client_without_a_common_protocol_is_told_what_there_is() -> None:
    with pytest.raises(ProtocolError) as caught:
        agree_on_container([*SPDY, *asking("v9.channel.k8s.io")])
    refusal = caught.value.refusal
    assert refusal.status == 403
    assert refusal.text.startswith(
        "unable to upgrade: unable to negotiate protocol: client supports [v9.channel.k8s.io]"
    )
    assert ("X-Accepted-Stream-Protocol-Versions", "v4.channel.k8s.io") in refusal.headers


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        (SPDY, "header X-Stream-Protocol-Version does not exist"),
        ([*SPDY, *asking(" , ")], "no valid protocols"),
        (asking("v4.channel.k8s.io"), "missing upgrade headers"),
        ([("connection", "Upgrade"), ("upgrade", "websocket")], "not a WebSocket handshake"),
    ],
)
def test_a_broken_handshake_is_a_bad_request(headers: list[tuple[str, str]], says: str) -> None:
    with pytest.raises(ProtocolError, match=says) as caught:
        agree_on_container(headers)
    assert caught.value.refusal.status == 400


@pytest.mark.parametrize(
    ("asked", "transport"),
    [
        ("v5.channel.k8s.io,v4.channel.k8s.io", "websocket-closing"),
        ("v4.channel.k8s.io", "websocket"),
        ("base64.channel.k8s.io", "websocket-base64"),
        ("", "websocket"),
    ],
)
def test_a_websocket_is_answered_as_rfc_6455_has_it(asked: str, transport: str) -> None:
    protocols = [("sec-websocket-protocol", asked)] if asked else []
    agreed = agree_on_container([*WEBSOCKET, *protocols])
    assert agreed.transport == transport
    # The key and the answer are those of RFC 6455, section 1.3.
    assert ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") in agreed.headers


def test_port_forward_has_protocols_of_its_own() -> None:
    assert agree_on_ports([*SPDY, *asking("portforward.k8s.io")]).transport == "spdy"
    tunnel = [("sec-websocket-protocol", "SPDY/3.1+portforward.k8s.io")]
    assert agree_on_ports([*WEBSOCKET, *tunnel]).transport == "spdy-tunnel"
    with pytest.raises(ProtocolError, match=r"not supported: \[v5.channel.k8s.io\]"):
        agree_on_ports([*WEBSOCKET, ("sec-websocket-protocol", "v5.channel.k8s.io")])
