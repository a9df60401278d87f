"""The keeper's process: `python -m kubecore.kubelet.keeper.process DESCRIPTOR SETTINGS`. The descriptor is a socket, at
the other end of which is the kubelet that starts it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from functools import partial

from kubecore.clock import Clock, RealClock, Timer
from kubecore.event_loops import loop_factory
from kubecore.images.store import ImageStore
from kubecore.kubelet.cgroups import detection
from kubecore.kubelet.folder_watch import FolderWatch
from kubecore.kubelet.keeper import messages
from kubecore.kubelet.keeper.door import Door
from kubecore.kubelet.keeper.messages import KeeperSettings
from kubecore.kubelet.keeper.place import NotAlone, Place
from kubecore.kubelet.keeper.service import Kept, Service
from kubecore.kubelet.logs.writing import LogBook
from kubecore.kubelet.networks import network
from kubecore.kubelet.runtime.host import HostRuntime
from kubecore.kubelet.runtime.interface import ContainerStatus
from kubecore.kubelet.runtime.memory_limits.use import MemoryUse
from kubecore.kubelet.runtime.memory_limits.watch import MemoryWatch
from kubecore.kubelet.runtime.oci import OciRuntime
from kubecore.kubelet.runtime.oci_programs.link import MonitorLink
from kubecore.kubelet.runtime.oci_programs.runtime import ProgramRuntime
from kubecore.kubelet.runtime.stopping import SHUTDOWN_GRACE_SECONDS, stop_running
from kubecore.node_network import NodeNetwork

log = logging.getLogger("kubecore.kubelet.keeper")


class Keeper:
    """`run` returns when nothing is left of what it kept."""

    def __init__(
        self, settings: KeeperSettings, clock: Clock, *, last_grace_seconds: float = SHUTDOWN_GRACE_SECONDS
    ) -> None:
        self._settings = settings
        self._last_grace_seconds = last_grace_seconds
        self._clock = clock
        self._ending = asyncio.Event()
        self._service: Service | None = None
        self._timer: Timer | None = None
        self._cgroups = detection.at(settings.places) if settings.places is not None else None
        self._node_network = NodeNetwork(*settings.node_network) if settings.node_network is not None else None
        self._network = network.make(
            settings.network_mode,
            settings.pod_cidrs,
            half=settings.half,
            cluster_cidrs=settings.cluster_cidrs,
            bridge=settings.bridge,
            through_node=settings.pods_through_node,
            node=self._node_network,
        )
        book, images = LogBook(settings.log_rotation), ImageStore(settings.image_store)
        host = HostRuntime(self._network, clock, book, node=settings.mark)
        oci = OciRuntime(self._network, clock, book, images, node=settings.mark)
        self._monitor = MonitorLink(clock)
        runtimes: dict[str, HostRuntime] = {"host": host, "oci": oci}
        for handler, program in settings.programs.items():
            runtimes[handler] = ProgramRuntime(
                self._network,
                clock,
                book,
                images,
                node=settings.mark,
                handler=handler,
                program=program,
                monitor=self._monitor,
            )
        self._kept = Kept(settings, runtimes, book, settings.lonely_seconds)

    async def run(self, first: socket.socket) -> None:
        """`first`: of the kubelet that wants it. Raises NotAlone."""
        place = Place(self._settings.root)
        runtimes = self._kept.runtimes
        door = Door(self._settings.root, self._node_network) if self._node_network is not None else None
        watch = MemoryWatch(self._clock, MemoryUse()) if self._settings.watches_memory else None
        for name, runtime in runtimes.items():
            await runtime.start()
            runtime.cgroups = self._cgroups
            runtime.memory.watch = watch
            runtime.memory.on_kill = partial(self._container_changed, name)
            runtime.subscribe(partial(self._container_ended, name))
        loop = asyncio.get_running_loop()
        folder = FolderWatch(self._settings.root, partial(self._look, place))
        try:
            self._serve(first)
            loop.add_reader(place.listener.fileno(), self._accept, place.listener)
            await self._ending.wait()
        finally:
            folder.close()
            if door is not None:
                door.close()
            loop.remove_reader(place.listener.fileno())
            await stop_running(self._clock, runtimes.values(), self._last_grace_seconds)
            await self._monitor.cut_short()
            for runtime in runtimes.values():
                await runtime.close()
            await self._monitor.close()
            if self._service is None:
                self._remove_traces()
            place.leave()

    def end(self) -> None:
        self._ending.set()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(BlockingIOError):
            self._serve(listener.accept()[0])

    def _serve(self, connection: socket.socket) -> None:
        """One kubelet at a time: the newest."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        former, self._service = self._service, None
        if former is not None:
            former.close()
        self._service = Service(connection, self._kept, on_closed=self._kubelet_gone, end=self.end)

    def _kubelet_gone(self) -> None:
        if self._service is None:  # for another one
            return
        self._service = None
        seconds = self._kept.lonely_seconds
        if self._kept.nothing:
            self._ending.set()
        elif seconds is None:
            log.info("the kubelet is gone; its pods go on")
        else:
            log.info("the kubelet is gone; its pods end in %g s if none comes", seconds)
            self._timer = self._clock.call_later(seconds, self._ending.set)

    def _container_ended(self, runtime: str, status: ContainerStatus) -> None:
        if self._service is not None:
            self._service.ended(runtime, status)

    def _container_changed(self, runtime: str, status: ContainerStatus) -> None:
        if self._service is not None:
            self._service.changed(runtime, status)

    def _look(self, place: Place) -> None:
        if not place.found:
            log.info("no kubelet could find its pods any more: they end")
            self._ending.set()

    def _remove_traces(self) -> None:
        """What a kubelet removes at its own end."""
        if self._cgroups is not None:
            self._cgroups.close()
        with suppress(OSError):
            self._network.abandon()


async def _work(descriptor: int, settings: KeeperSettings) -> int:
    keeper = Keeper(settings, RealClock())
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, keeper.end)
    loop.add_signal_handler(signal.SIGINT, keeper.end)
    try:
        for own in (descriptor, *(settings.node_network or ())):
            os.set_inheritable(own, False)
        await keeper.run(socket.socket(fileno=descriptor))
    except NotAlone:
        log.warning("another keeper of this node runs")
        return 1
    return 0


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    descriptor, settings = int(sys.argv[1]), messages.decode(bytes.fromhex(sys.argv[2]), KeeperSettings)
    os.chdir("/")  # whatever folder it was started in may be removed
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_work(descriptor, settings))


if __name__ == "__main__":
    sys.exit(main())
