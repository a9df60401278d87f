"""A cluster for programs that are synchronous: it has a thread and an event loop of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import Any, Self, TypeVar

from kubecore.cluster import Cluster, ClusterConfig
from kubecore.event_loops import loop_factory

T = TypeVar("T")


class ThreadedCluster:
    """A whole cluster, there within the context.

    >>> with ThreadedCluster(ClusterConfig.throwaway(folder)) as cluster:  # /readyz is ok
    ...     cluster.kubeconfig  # Path of the administrator's kubeconfig

    `start` and `stop` are the same in two calls. Neither may be called on an event loop, which would stand still.
    """

    def __init__(self, config: ClusterConfig) -> None:
        self._cluster = Cluster(config)
        self._started: Future[None] = Future()
        self._end: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: Thread | None = None

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
        """The name of a new one, in which pods can be made: it has its default service account. Raises StatusError."""
        return self._do(self._make_namespace(prefix))

    def delete_namespace(self, name: str) -> None:
        """Returns at once; its objects go in the background. Raises StatusError."""
        self._do(self._cluster.client.delete("namespaces", name))

    def start(self) -> None:
        """Returns when the cluster is ready. Raises what its start failed with."""
        if self._thread is not None:
            raise RuntimeError("the cluster has been started")
        self._started = Future()
        self._thread = Thread(target=self._run, name="kubecore", daemon=True)
        self._thread.start()
        try:
            self._started.result()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Returns when nothing of it is left; at once when it does not run."""
        if self._thread is None:
            return
        if self._loop is not None and not self._loop.is_closed() and self._end is not None:
            self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        self._thread = self._loop = self._end = None

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(self._live())
        except BaseException as error:
            if self._started.done():
                raise
            self._started.set_exception(error)

    async def _live(self) -> None:
        """From start to end. A start that is given up (Ctrl-C) ends as soon as it has come to its end."""
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        async with self._cluster:
            self._started.set_result(None)
            await self._end.wait()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        """On the cluster's loop."""
        if self._loop is None:
            work.close()
            raise RuntimeError("the cluster has not been started")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _make_namespace(self, prefix: str) -> str:
        client = self._cluster.client
        made = await client.create("namespaces", {"metadata": {"generateName": prefix}})
        name: str = made["metadata"]["name"]
        async for events in client.watch("serviceaccounts", name, field_selector="metadata.name=default"):
            if any(event.type == "ADDED" for event in events):
                break
        return name
