"""How large an object may be to be stored: as with etcd, so that who tests here meets the limit here.

etcd takes requests of 1.5 MiB (`--max-request-bytes`); its client sends none above 2 MiB. Built-in kinds are stored in
protobuf there, custom ones in JSON: it is the size of that which counts.
"""

from __future__ import annotations

from kubecore.api import protobuf
from kubecore.api.errors import StatusError
from kubecore.api.scheme import Resource

MOST_BYTES = 3 * 512 * 1024
_MOST_SENT = 2 * 1024 * 1024


def more_than_is_sent(size: int) -> StatusError:
    told = f"trying to send message larger than max ({size} vs. {_MOST_SENT})"
    return StatusError(500, "", f"rpc error: code = ResourceExhausted desc = {told}")


def check_size(resource: Resource, body: bytes) -> None:
    """`body`: the object as it is stored here, in JSON. Raises StatusError in the words of etcd and its client."""
    if len(body) <= MOST_BYTES:
        return
    is_built_in = protobuf.has_form(resource.api_version, resource.kind)
    size = len(protobuf.encode(body)) if is_built_in else len(body)
    if size > _MOST_SENT:
        raise more_than_is_sent(size)
    if size > MOST_BYTES:
        raise StatusError(500, "", "etcdserver: request is too large")
