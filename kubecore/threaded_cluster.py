"""A cluster for programs that are synchronous: it has a thread and an event loop of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import Future
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self, TypeVar

from kubecore.api.errors import StatusError
from kubecore.cluster import Cluster, ClusterConfig
from kubecore.event_loops import loop_factory

T = TypeVar("T")

_LONGEST_ANSWER_SECONDS = 60.0


class ClusterFailed(RuntimeError):
    """A part of the cluster has died, and the cluster with it; the cause says of what."""


class ThreadedCluster:
    """A whole cluster, there within the context.

    >>> with ThreadedCluster(ClusterConfig.throwaway(folder)) as cluster:  # /readyz is ok
    ...     cluster.kubeconfig  # Path of the administrator's kubeconfig

    `start` and `stop` are the same in two calls. Neither may be called on an event loop, which would stand still.
    """

    def __init__(self, config: ClusterConfig) -> None:
        self._cluster = Cluster(config)
        self._started: Future[None] = Future()
        self._stopping = Event()
        self._end: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: Thread | None = None
        self._failure: BaseException | None = None

    @property
    def kubeconfig(self) -> Path:
        return self._cluster.kubeconfig

    @property
    def url(self) -> str:
        """`https://HOST:PORT` of the API server. RuntimeError when it does not run."""
        return self._cluster.url

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def make_namespace(self, prefix: str) -> str:
        """The name of a new one, in which pods can be made: it has its default service account. Raises StatusError,
        and TimeoutError where that does not come."""
        return self._do(self._make_namespace(prefix))

    def delete_namespace(self, name: str) -> None:
        """Returns at once; its objects go in the background. Raises StatusError, though not where it is gone."""
        self._do(self._delete_namespace(name))

    def start(self) -> None:
        """Returns when the cluster is ready. Raises what its start failed with."""
        if self._thread is not None:
            raise RuntimeError("the cluster has been started")
        self._started, self._failure = Future(), None
        self._stopping.clear()
        self._thread = Thread(target=self._run, name="kubecore", daemon=True)
        self._thread.start()
        try:
            self._started.result()
        except BaseException:
            self._join()
            raise

    def stop(self) -> None:
        """Returns when nothing of it is left; at once when it does not run. ClusterFailed when it had ended before."""
        self._join()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise ClusterFailed(f"a part of the cluster died: {failure!r}") from failure

    def _join(self) -> None:
        if self._thread is None:
            return
        self._stopping.set()
        loop, end = self._loop, self._end
        if loop is not None and end is not None and not loop.is_closed():
            loop.call_soon_threadsafe(end.set)
        self._thread.join()
        self._thread = self._loop = self._end = None

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(self._live())
        except BaseException as error:
            if self._started.done():
                self._failure = error
            else:
                self._started.set_exception(error)

    async def _live(self) -> None:
        """From start to end. A start that is given up (Ctrl-C) ends once it has come to its end."""
        end = asyncio.Event()
        self._loop, self._end = asyncio.get_running_loop(), end
        if self._stopping.is_set():  # nobody could tell the event
            end.set()
        async with self._cluster as cluster:
            self._started.set_result(None)
            assert cluster.failed is not None
            ended = asyncio.create_task(end.wait())
            await asyncio.wait((ended, cluster.failed), return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            if cluster.failed.done():
                raise cluster.failed.result()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        """On the cluster's loop."""
        if self._loop is None or self._loop.is_closed():
            work.close()
            raise RuntimeError("the cluster does not run")
        answer = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return answer.result(_LONGEST_ANSWER_SECONDS)
        except BaseException:
            answer.cancel()
            raise

    async def _make_namespace(self, prefix: str) -> str:
        client = self._cluster.client
        made = await client.create("namespaces", {"metadata": {"generateName": prefix}})
        name: str = made["metadata"]["name"]
        async for events in client.watch("serviceaccounts", name, field_selector="metadata.name=default"):
            if any(event.type == "ADDED" for event in events):
                break
        return name

    async def _delete_namespace(self, name: str) -> None:
        try:
            await self._cluster.client.delete("namespaces", name)
        except StatusError as error:
            if error.code != 404:
                raise
