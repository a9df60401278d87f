"""The scale subresource: autoscaling/v1 Scale over what has replicas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from kubecore.api import errors
from kubecore.api.errors import FieldError
from kubecore.api.selectors import Selector
from kubecore.apiserver.handlers import negotiation
from kubecore.apiserver.handlers.request import JSON_TYPE, Request, Response, warning_headers
from kubecore.apiserver.registry.codec import loads
from kubecore.apiserver.registry.options import write_options
from kubecore.apiserver.registry.store import Change

if TYPE_CHECKING:
    from kubecore._native import UserInfo
    from kubecore.apiserver.handlers.served import Served
    from kubecore.apiserver.handlers.writing import Writing
    from kubecore.apiserver.registry.registry import Registry
    from kubecore.apiserver.registry.strategy import RequestContext
    from kubecore.apiserver.storage.interface import Stored

JSON = dict[str, Any]

KIND = "autoscaling/v1/Scale"


def scale_of(obj: JSON) -> JSON:
    """The Scale that shows an object's replicas."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    shown = ""
    selector = spec.get("selector")
    if selector:
        simple = "matchLabels" not in selector and "matchExpressions" not in selector
        wrapped = {"matchLabels": selector} if simple else selector
        shown = str(Selector.from_label_selector(wrapped))
    return make_scale(obj, replicas=spec.get("replicas") or 0, current=status.get("replicas") or 0, selector=shown)


def make_scale(obj: JSON, *, replicas: int, current: int, selector: str) -> JSON:
    """A Scale of that object."""
    metadata = obj["metadata"]
    shown = {
        name: metadata[name]
        for name in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
        if name in metadata
    }
    status: JSON = {"replicas": current}
    if selector:
        status["selector"] = selector
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": shown,
        "spec": {"replicas": replicas} if replicas else {},
        "status": status,
    }


class Replicas:
    """Where a kind keeps its replicas: in `spec.replicas`, unless a subclass knows better."""

    def show(self, obj: JSON) -> JSON:
        """The object's Scale."""
        return scale_of(obj)

    def put(self, obj: JSON, replicas: int) -> None:
        obj["spec"]["replicas"] = replicas

    def check_present(self, obj: JSON) -> None:
        """Raises what a GET of a Scale is refused with."""


class ScaleSubresource:
    def __init__(self, registry: Registry, writing: Writing, replicas: Replicas | None = None) -> None:
        self._registry = registry
        self._writing = writing
        self._replicas = replicas or Replicas()

    async def get(self, request: Request, user: UserInfo, served: Served) -> Response:
        obj = loads((await served.stored().read(request.namespace, request.name)).value)
        self._replicas.check_present(obj)
        return self._answer(request, self._replicas.show(obj), served.headers)

    async def update(self, request: Request, user: UserInfo, served: Served) -> Response:
        ctx = self._writing.context(request, user, served, write_options("update", request.query))
        scale = self._writing.decode(ctx, KIND, request.body, request.content_type)
        return await self._scale(request, served, ctx, lambda _: scale)

    async def patch(self, request: Request, user: UserInfo, served: Served) -> Response:
        ctx = self._writing.context(request, user, served, write_options("patch", request.query))
        patch_type = request.content_type.partition(";")[0].strip()
        schemas = self._registry.schemas

        def patched(old: JSON) -> JSON:
            body = schemas.patch(KIND, orjson.dumps(self._replicas.show(old)), request.body, patch_type)
            return self._writing.decode(ctx, KIND, body, JSON_TYPE)

        return await self._scale(request, served, ctx, patched)

    async def _scale(self, request: Request, served: Served, ctx: RequestContext, wanted: Any) -> Response:
        store = served.stored()
        # The change goes through the parent's strategy and admission, as a change of its spec.
        ctx.subresource = ""

        def make(old: JSON, stored: Stored) -> JSON:
            scale = wanted(old)
            replicas = (scale.get("spec") or {}).get("replicas") or 0
            if not isinstance(replicas, int) or replicas < 0:
                cause = FieldError.invalid("spec.replicas", replicas, "must be greater than or equal to 0")
                raise errors.invalid("Scale", request.name, [cause], group="autoscaling")
            given = scale.get("metadata") or {}
            if given.get("name") not in (None, "", request.name):
                raise errors.bad_request(
                    f"the name of the object ({given['name']}) does not match the name on the URL ({request.name})"
                )
            obj: JSON = loads(stored.value)
            self._replicas.put(obj, replicas)
            if given.get("uid") and given["uid"] != obj["metadata"].get("uid"):
                obj["metadata"]["uid"] = given["uid"]
            obj["metadata"]["resourceVersion"] = version = given.get("resourceVersion") or ""
            if not version:
                # Not the object as a whole is replaced: whatever its kind says of updates without a version.
                ctx.verb = "patch"
            return obj

        written = await store.update(ctx, Change(make))
        return self._answer(request, self._replicas.show(loads(written.body)), warning_headers(ctx.warnings))

    def _answer(self, request: Request, scale: JSON, headers: Any) -> Response:
        form = negotiation.form_for(request.accept)
        body, media = negotiation.encode(form, orjson.dumps(scale))
        return Response(200, body, media, headers)
