"""Requests to connect to something (exec, attach, port-forward, proxies), as webhooks and policies see them: operation
CONNECT on the options, which they may change.

After upstream k8s.io/apiserver pkg/endpoints/handlers/rest.go (ConnectResource).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, TypeVar

import msgspec
import orjson

from kubecore.api import errors, schemas
from kubecore.api.queries import parse_query
from kubecore.apiserver.admission.chain import CONNECT
from kubecore.apiserver.admission.dynamic.subjects import OwnKind
from kubecore.apiserver.registry.options import NO_OPTIONS

if TYPE_CHECKING:
    from kubecore._native import UserInfo
    from kubecore.api.schemas import KindSchema
    from kubecore.api.scheme import Subresource
    from kubecore.apiserver.handlers.request import Request
    from kubecore.apiserver.handlers.served import Served
    from kubecore.apiserver.handlers.writing import Writing
    from kubecore.apiserver.registry.registry import Registry


class Options(msgspec.Struct, omit_defaults=True):
    """Of one kind of connections; fields are called as in the API."""


class AttachOptions(Options):
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    tty: bool = False
    container: str = ""


class ExecOptions(AttachOptions):
    command: list[str] = []


class PortForwardOptions(Options):
    ports: list[int] = []


class ProxyOptions(Options):
    path: str = ""


_SCHEMAS = {
    bool: {"type": "boolean"},
    str: {"type": "string"},
    list[str]: {"type": "array", "items": {"type": "string"}},
    list[int]: {"type": "array", "items": {"type": "integer", "format": "int32"}},
}
T = TypeVar("T", bound=Options)


class Connecting:
    def __init__(self, registry: Registry, writing: Writing) -> None:
        self._registry = registry
        self._writing = writing

    async def admitted(self, request: Request, user: UserInfo, served: Served, options: T) -> T:
        """The options as they are to be followed. Raises StatusError when the request is refused."""
        if "dryRun" in request.query and "dryRun" in parse_query(request.query):
            raise errors.bad_request("dryRun is not supported")
        dynamic = self._registry.admission.asked
        if dynamic is None:
            return options
        ctx = self._writing.context(request, user, served, NO_OPTIONS)
        ctx.operation = CONNECT
        schema = _schema(type(options), served.resource.subresources[request.subresource])
        obj = msgspec.to_builtins(options)
        await dynamic.admit(OwnKind(ctx, served.resource, obj, subresource=request.subresource, schema=schema))
        self._registry.admission.metrics.validated(ctx)
        try:
            return msgspec.convert(obj, type(options))
        except msgspec.ValidationError as error:
            raise errors.internal_error(error) from None


@functools.cache
def _schema(options: type[Options], subresource: Subresource) -> KindSchema:
    """What OpenAPI does not tell of these kinds."""
    properties = {field.name: _SCHEMAS[field.type] for field in msgspec.structs.fields(options)}
    schema = orjson.dumps({"type": "object", "properties": properties})
    return schemas.custom(schema, api_version=subresource.version, kind=subresource.kind)
