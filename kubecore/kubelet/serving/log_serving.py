"""Logs over HTTP: /containerLogs/ and /logs/ of a kubelet.

(kubernetes `pkg/kubelet/server/server.go`, getContainerLogs and getLogs.)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, unquote

from kubecore.api import meta
from kubecore.kubelet.logs.reading import LogOptions, read_log
from kubecore.kubelet.serving import node_logs
from kubecore.kubelet.serving.streaming import Refused

if TYPE_CHECKING:
    from kubecore._native import Request, ResponseStream
    from kubecore.kubelet.kubelet import Kubelet

_HTML = "text/html; charset=utf-8"
_STREAMS = ("All", "Stdout", "Stderr")


class LogServing:
    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet

    async def of_container(self, request: Request, namespace: str, pod: str, container: str) -> None:
        """Raises Refused."""
        options, previous = options_of(request.query, self._kubelet.now())
        worker = self._kubelet.workers.find(namespace, pod)
        if worker is None:
            raise Refused(404, f'pod "{pod}" does not exist')
        record = worker.record(container)
        if record is None:
            raise Refused(404, f'container "{container}" not found in pod "{pod}"')
        file = record.previous_log_path if previous else record.log_path
        if file is None or not file.exists():
            shown = f'"{container}" in pod "{pod}"'
            if previous:
                raise Refused(400, f"previous terminated container {shown} not found")
            why = record.waiting_reason or "ContainerCreating"
            raise Refused(400, f"container {shown} is waiting to start: {why}")
        await _send(request, "text/plain", read_log(file, options, self._kubelet.book))

    async def of_node(self, request: Request) -> None:
        """Raises Refused."""
        folder = self._kubelet.root / "var/log"
        path = unquote(request.path).removeprefix("/logs")
        found = await asyncio.to_thread(node_logs.find, folder, path)
        if found is None:
            raise Refused(404, "404 page not found\n")
        if isinstance(found, node_logs.OpenLog):
            await _send(request, found.content_type, found.pieces)
        elif not path.endswith("/"):  # links are read as of the folder
            name = request.path.rpartition("/")[2]
            request.respond(301, b"", _HTML, [("Location", f"{name}/")])
        else:
            request.respond(200, found.body, _HTML)


class _Wanted(NamedTuple):
    options: LogOptions
    previous: bool


def options_of(query: str, now: datetime) -> _Wanted:
    """From the names of PodLogOptions, of which the first one given counts. Raises Refused."""
    asked = dict(reversed(parse_qsl(query, keep_blank_values=True)))
    if tail := asked.get("tail"):  # of old clients
        asked["tailLines"] = "" if tail == "all" else tail
    try:
        seconds, tail_lines, limit = (_number(asked, name) for name in ("sinceSeconds", "tailLines", "limitBytes"))
        since = meta.parse_time(asked["sinceTime"]) if asked.get("sinceTime") else None
    except ValueError:
        raise Refused(400, '{"message": "Unable to decode query."}') from None
    stream = asked.get("stream", "All")
    wrong = (
        stream not in _STREAMS
        or (seconds is not None and (seconds < 1 or since is not None))
        or (tail_lines is not None and (tail_lines < 0 or stream != "All"))
        or (limit is not None and limit < 1)
    )
    if wrong:
        raise Refused(422, '{"message": "Invalid request."}')
    if stream != "All":
        # Upstream's words while its gate is off.
        gate = "Please enable PodLogsQuerySplitStreams feature gate in kubelet"
        raise Refused(400, f'unable to return the given log stream: "{stream}". {gate}')
    if seconds is not None:
        since = now - timedelta(seconds=seconds)
    follow, timestamps, previous = (_truth(asked.get(name)) for name in ("follow", "timestamps", "previous"))
    options = LogOptions(follow=follow, timestamps=timestamps, tail=tail_lines, since=since, limit_bytes=limit)
    return _Wanted(options, previous)


def _number(asked: dict[str, str], name: str) -> int | None:
    return int(asked[name]) if asked.get(name) else None


def _truth(text: str | None) -> bool:
    """As apimachinery's `pkg/runtime/conversion.go` (Convert_Slice_string_To_bool)."""
    return text is not None and text != "0" and text.lower() != "false"


async def _send(request: Request, content_type: str, pieces: AsyncIterator[bytes]) -> None:
    """Writes as fast as the client reads, until it has gone."""
    stream = request.respond_stream(200, content_type)
    task = asyncio.current_task()
    if task is not None:
        stream.on_closed(partial(_cancel, task))
    try:
        async for piece in pieces:
            if not stream.write(piece):
                return
            await _drained(stream)
        stream.close()
    finally:
        with suppress(AttributeError):
            await pieces.aclose()  # type: ignore[attr-defined]


def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()


async def _drained(stream: ResponseStream) -> None:
    if stream.writable or stream.closed:
        return
    room = asyncio.Event()
    stream.on_writable(room.set)
    await room.wait()
