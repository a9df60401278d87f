"""Calls of the gRPC port of a server, as whoever a certificate or a token says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubecore.api.errors import StatusError
from kubecore.apiserver.authentication.pki import KeyPair
from kubecore.apiserver.server import APIServer
from kubecore.client.grpc import GrpcClient, connect

JSON = dict[str, Any]
REVIEWS = "authentication.k8s.io/v1/selfsubjectreviews"


def calling(
    server: APIServer,
    *,
    host: str = "127.0.0.1",
    pair: KeyPair | None = None,
    token: str = "",
    said: Mapping[str, str] | None = None,
) -> GrpcClient:
    """`said` goes with each call, as what HTTP has headers for."""
    return connect(
        f"{host}:{server.grpc_port}",
        ca=server.authority.certificate,
        certificate=pair and pair.certificate,
        key=pair and pair.key,
        token=token,
        metadata=list((said or {}).items()),
    )


def calling_as(server: APIServer, name: str, *groups: str, **said: str) -> GrpcClient:
    told = {key.replace("_", "-"): value for key, value in said.items()}
    return calling(server, pair=server.issue_client_certificate(name, groups), said=told)


async def whoami(client: GrpcClient) -> tuple[int, JSON]:
    """Code and the user that the call is taken for."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    try:
        made = await client.create(REVIEWS, review)
    except StatusError as error:
        return error.code, {}
    return 201, made.decode()["status"]["userInfo"]
