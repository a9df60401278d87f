"""pods/exec, attach and portforward: the connection is passed on to the kubelet of the pod's node.

After upstream pkg/registry/core/pod/rest/subresources.go and pod/strategy.go (streamLocation). What protocols there are
is the kubelet's to know: it is asked as we were, and a refusal of its is the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from kubecore import _native
from kubecore.api import errors
from kubecore.api.queries import port_numbers, query_pairs
from kubecore.apiserver.authorization.authorizer import Attributes, Authorizer
from kubecore.apiserver.handlers.connecting import AttachOptions, ExecOptions, PortForwardOptions
from kubecore.apiserver.handlers.kubelets import JSON, Kubelet, KubeletConnection, chosen_container, kubelet_of
from kubecore.apiserver.handlers.request import Request, Response
from kubecore.apiserver.registry.codec import loads

if TYPE_CHECKING:
    from kubecore._native import UserInfo
    from kubecore.apiserver.handlers.chain import Handler
    from kubecore.apiserver.handlers.connecting import Connecting
    from kubecore.apiserver.handlers.served import Served
    from kubecore.apiserver.registry.registry import Registry

# As the options of the API are called, and as the kubelet calls them.
_STREAMS = (("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty"))


class PodStreams:
    def __init__(
        self, registry: Registry, kubelets: KubeletConnection, authorizer: Authorizer, connecting: Connecting
    ) -> None:
        self._registry = registry
        self._connecting = connecting
        self._kubelets = kubelets
        self._authorizer = authorizer

    def handlers(self) -> dict[tuple[str, str, str], Handler]:
        """By (group resource, subresource, verb)."""
        found: dict[tuple[str, str, str], Handler] = {}
        for verb in ("get", "create"):
            found["pods", "exec", verb] = self._exec
            found["pods", "attach", verb] = self._attach
            found["pods", "portforward", verb] = self._port_forward
        return found

    async def _exec(self, request: Request, user: UserInfo, served: Served) -> Response | None:
        query = list(query_pairs(request.query))
        command = [value for name, value in query if name == "command"]
        options = ExecOptions(**_streams(query), container=_container(query), command=command)
        await self._to_container(request, user, served, options)
        return None

    async def _attach(self, request: Request, user: UserInfo, served: Served) -> Response | None:
        query = list(query_pairs(request.query))
        options = AttachOptions(**_streams(query), container=_container(query))
        await self._to_container(request, user, served, options)
        return None

    async def _port_forward(self, request: Request, user: UserInfo, served: Served) -> Response | None:
        await self._check(request, user)
        given = (value for name, value in query_pairs(request.query) if name == "ports")
        options = PortForwardOptions(ports=port_numbers(given))
        ports = (await self._connecting.admitted(request, user, served, options)).ports
        params = [("port", ",".join(map(str, ports)))] if ports else []
        kubelet = self._kubelet(request, loads(served.stored().get(request.namespace, request.name).value))
        path = quote(f"/portForward/{request.namespace}/{request.name}")
        self._pass_on(request, kubelet, path, params)
        return None

    async def _to_container(self, request: Request, user: UserInfo, served: Served, options: AttachOptions) -> None:
        await self._check(request, user)
        options = await self._connecting.admitted(request, user, served, options)
        params = [(theirs, "1") for ours, theirs in _STREAMS if getattr(options, ours)]
        if isinstance(options, ExecOptions):
            params += [("command", one) for one in options.command]
        pod = loads(served.stored().get(request.namespace, request.name).value)
        container = chosen_container(pod, options.container)
        path = quote(f"/{request.subresource}/{request.namespace}/{request.name}/{container}")
        self._pass_on(request, self._kubelet(request, pod), path, params)

    def _kubelet(self, request: Request, pod: JSON) -> Kubelet:
        node = (pod.get("spec") or {}).get("nodeName") or ""
        if not node:
            raise errors.bad_request(f"pod {request.name} does not have a host assigned")
        return kubelet_of(self._registry, node, asked="pods")

    def _pass_on(self, request: Request, kubelet: Kubelet, path: str, params: list[tuple[str, str]]) -> None:
        """Raises 400 for a request that does not ask for another protocol, or cannot, having come from within."""
        if not isinstance(request, _native.Request) or not _is_upgrade(request):
            raise errors.bad_request("Upgrade request required")
        target = f"{path}?{urlencode(params)}" if params else path
        _native.forward(request, host=kubelet.host, port=kubelet.port, target=target, tls=self._kubelets.tls())

    async def _check(self, request: Request, user: UserInfo) -> None:
        """A client that asks by GET, as WebSockets do, must be allowed to create as well (upstream issue 133515)."""
        if request.verb != "create":
            attributes = Attributes(
                "create",
                group=request.api_group,
                version=request.api_version,
                resource=request.resource,
                subresource=request.subresource,
                namespace=request.namespace,
                name=request.name,
            )
            decision = await self._authorizer.decide(user, attributes)
            if not decision.allowed:
                raise errors.forbidden(request.api_group, request.resource, request.name, decision.reason)


def _is_upgrade(request: _native.Request) -> bool:
    return request.wants_upgrade and any(
        name == "connection" and "upgrade" in value.lower() for name, value in request.headers()
    )


def _streams(query: list[tuple[str, str]]) -> dict[str, bool]:
    first: dict[str, str] = {}
    for name, value in query:
        first.setdefault(name, value)
    return {name: is_true(first[name]) for name, _ in _STREAMS if name in first}


def _container(query: list[tuple[str, str]]) -> str:
    return next((value for name, value in query if name == "container"), "")


def is_true(text: str) -> bool:
    """As apimachinery's Convert_Slice_string_To_bool: all but these is true, no value at all included."""
    return text.lower() not in ("false", "0")
