"""exec, attach and port-forward of the kubelet's server: a client's connection joined to a container or a pod's ports.

After kubelet `pkg/cri/streaming` and upstream `pkg/kubelet/server/server.go`. The bytes flow in Rust; here is decided
who is connected to what, and how it ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import orjson

from kubecore import _native
from kubecore.kubelet.runtime.interface import Runtime, RuntimeFailure
from kubecore.kubelet.runtime.processes import Ended
from kubecore.kubelet.runtime.streams import ClientStreams, StreamedProcess, StreamsWanted
from kubecore.kubelet.serving.stream_protocols import Agreed, ProtocolError, Refusal, agree_on_container, agree_on_ports

if TYPE_CHECKING:
    from kubecore._native import Request
    from kubecore.kubelet.pods.worker import PodWorker

FindPod = Callable[[str, str], "PodWorker | None"]

_PLAIN = "text/plain; charset=utf-8"


class Refused(Exception):
    """The request is answered with a status and a text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class ContainerStreaming:
    """Sessions of clients with processes in containers."""

    def __init__(self, find_pod: FindPod) -> None:
        self._find_pod = find_pod

    async def exec(self, request: Request, namespace: str, pod: str, container: str) -> None:
        """`/exec/NAMESPACE/POD/CONTAINER?command=...&input=1&output=1&error=1&tty=1`"""
        query = parse_qs(request.query, keep_blank_values=True)
        command = query.get("command", [])

        async def start(wanted: StreamsWanted) -> StreamedProcess:
            if not command:
                raise Refused(400, "you must specify at least one command for the container")
            runtime, container_id = self._container(namespace, pod, container)
            return await runtime.exec(container_id, command, wanted)

        await self._serve(request, query, start, _ExecOutcome(command))

    async def attach(self, request: Request, namespace: str, pod: str, container: str) -> None:
        """`/attach/NAMESPACE/POD/CONTAINER?input=1&output=1&error=1&tty=1`"""

        async def start(wanted: StreamsWanted) -> StreamedProcess:
            runtime, container_id = self._container(namespace, pod, container)
            return await runtime.attach(container_id, wanted)

        query = parse_qs(request.query, keep_blank_values=True)
        await self._serve(request, query, start, _AttachOutcome())

    async def run(self, namespace: str, pod: str, container: str, command: str) -> bytes:
        """What a command says, whose words are between blanks. Raises Refused."""
        runtime, container_id = self._container(namespace, pod, container)
        try:
            ended = await runtime.exec_sync(container_id, command.split(" "), 0)
        except RuntimeFailure as error:
            raise Refused(500, error.message) from error
        if ended.exit_code:
            said = ended.stderr.decode(errors="replace")
            raise Refused(500, f"command '{command}' exited with {ended.exit_code}: {said}")
        return ended.stdout + ended.stderr

    async def port_forward(self, request: Request, namespace: str, pod: str, uid: str = "") -> None:
        """`/portForward/NAMESPACE/POD?port=80,443`; SPDY does not name the ports here."""
        try:
            agreed = agree_on_ports(request.headers())
            ports = _ports(request.query) if agreed.transport.startswith("websocket") else []
            worker = self._find_pod(namespace, pod)
            if worker is None:
                raise Refused(404, "pod does not exist")
            if uid and worker.uid != uid:
                raise Refused(404, "pod not found")
            place = worker.place
            if place is None:
                raise Refused(500, f"pod not found ({pod}_{namespace})")
            network, addresses = await place.runtime.pod_network(place.sandbox_id)
        except ProtocolError as error:
            refuse(request, error.refusal)
        except Refused as error:
            refuse(request, Refusal(error.status, error.text))
        except RuntimeFailure as error:
            refuse(request, Refusal(500, error.message))
        else:
            _native.serve_port_forward(
                request,
                agreed.headers,
                transport=agreed.transport,
                ports=ports,
                network=network,
                addresses=[ip_address(address) for address in addresses],
                pod=f"{pod}_{namespace}",
                uid=worker.uid,
            )

    async def _serve(
        self,
        request: Request,
        query: dict[str, list[str]],
        start: Callable[[StreamsWanted], Awaitable[StreamedProcess]],
        outcome: _ExecOutcome | _AttachOutcome,
    ) -> None:
        try:
            wanted = _wanted(query)
            agreed = agree_on_container(request.headers())
        except ProtocolError as error:
            refuse(request, error.refusal)
            return
        except Refused as error:
            refuse(request, Refusal(error.status, error.text))
            return
        try:
            process = await start(wanted)
        except Refused as error:
            if not agreed.told_inside:
                refuse(request, Refusal(error.status, error.text))
                return
            _tell(request, agreed, wanted, internal_error(f"unable to upgrade connection: {error.text}"))
        except RuntimeFailure as error:
            _tell(request, agreed, wanted, internal_error(outcome.failure(error.message)))
        else:
            session = _open(request, agreed, wanted, process.streams, process.detach)
            _finish_at_end(session, process.ended, lambda ended: outcome.said(agreed, ended))

    def _container(self, namespace: str, pod: str, container: str) -> tuple[Runtime, str]:
        worker = self._find_pod(namespace, pod)
        if worker is None:
            raise Refused(404, "pod does not exist")
        record = worker.record(container)
        if record is None or record.state != "running" or worker.runtime is None:
            raise Refused(500, f'container not found ("{container}")')
        return worker.runtime, record.id


class _ExecOutcome:
    """What the error channel says about a command."""

    def __init__(self, command: list[str]) -> None:
        self._command = command

    def failure(self, message: str) -> str:
        return f"error executing command in container: failed to exec in container: {message}"

    def said(self, agreed: Agreed, ended: Ended) -> bytes:
        code = ended.exit_code
        if code == 0:
            return _success(agreed)
        if ended.failure:
            text = self.failure(ended.failure)
            return internal_error(text) if agreed.states_outcome else text.encode()
        shown = f"error executing command [{' '.join(self._command)}], exit code {code}"
        if agreed.told_inside:
            shown = f"command terminated with exit code {code}"
        message = f"command terminated with non-zero exit code: {shown}"
        if not agreed.states_outcome:
            return message.encode()
        details = {"causes": [{"reason": "ExitCode", "message": str(code)}]}
        return status(message, "NonZeroExitCode", details=details)


class _AttachOutcome:
    """How the container's process has ended is not the client's to hear: its pod says so."""

    def failure(self, message: str) -> str:
        return f"error attaching to container: {message}"

    def said(self, agreed: Agreed, ended: Ended) -> bytes:
        return _success(agreed)


def _success(agreed: Agreed) -> bytes:
    return orjson.dumps({"metadata": {}, "status": "Success"}) if agreed.states_outcome else b""


def status(message: str, reason: str, *, code: int = 0, details: dict[str, Any]) -> bytes:
    body = {"metadata": {}, "status": "Failure", "message": message, "reason": reason, "details": details}
    return orjson.dumps({**body, "code": code} if code else body)


def internal_error(text: str) -> bytes:
    message = f"Internal error occurred: {text}"
    return status(message, "InternalError", code=500, details={"causes": [{"message": text}]})


def refuse(request: Request, refusal: Refusal) -> None:
    request.respond(refusal.status, refusal.text.encode(), _PLAIN, refusal.headers)


def _wanted(query: dict[str, list[str]]) -> StreamsWanted:
    stdin, stdout, stderr, tty = (query.get(name, [""])[0] == "1" for name in ("input", "output", "error", "tty"))
    wanted = StreamsWanted(stdin, stdout, stderr and not tty, tty)
    if not (wanted.stdin or wanted.stdout or wanted.stderr):
        raise Refused(400, "you must specify at least 1 of stdin, stdout, stderr")
    return wanted


def _ports(query: str) -> list[int]:
    """Of the query's `port` parameters, each a list."""
    told = parse_qs(query, keep_blank_values=True).get("port", [])
    if not told:
        raise Refused(400, 'query parameter "port" is required')
    ports = []
    for text in told:
        if not text:
            raise Refused(400, 'query parameter "port" cannot be empty')
        for one in text.split(","):
            if not one.isdecimal() or int(one) > 65535:
                raise Refused(400, f'unable to parse "{text}" as a port')
            if int(one) < 1:
                raise Refused(400, f'port "{text}" must be > 0')
            ports.append(int(one))
    return ports


def _nothing() -> None:
    """Nobody waits for the end of such a session."""


def _open(
    request: Request,
    agreed: Agreed,
    wanted: StreamsWanted,
    streams: ClientStreams,
    on_closed: Callable[[], None] = _nothing,
) -> _native.ContainerSession:
    return _native.serve_container(
        request,
        agreed.headers,
        transport=agreed.transport,
        wanted=(wanted.stdin, wanted.stdout, wanted.stderr, wanted.tty),
        resizable=agreed.resizable,
        descriptors=streams.take(),
        on_closed=on_closed,
    )


def _tell(request: Request, agreed: Agreed, wanted: StreamsWanted, failure: bytes) -> None:
    """A session in which nothing runs, because of `failure` (a Status)."""
    said = failure if agreed.states_outcome else orjson.loads(failure)["message"].encode()
    _open(request, agreed, wanted, ClientStreams()).finish(said)


def _finish_at_end(
    session: _native.ContainerSession, ended: asyncio.Future[Ended], said: Callable[[Ended], bytes]
) -> None:
    """The session lives as long as somebody holds it: the future does."""
    ended.add_done_callback(lambda future: session.finish(said(future.result())))
