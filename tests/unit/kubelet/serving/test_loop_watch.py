"""A loop that hangs is told of, though it cannot tell."""

from __future__ import annotations

import asyncio
import threading

from kubecore.kubelet.serving.loop_watch import LoopWatch


async def test_a_loop_that_hangs_is_told_of_and_that_it_goes_on_again() -> None:
    loop, healthy, again = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    impatient, hanging = threading.Event(), threading.Event()
    waited = set[float]()

    def tell(answers: bool) -> None:
        if not answers:
            hanging.set()
        else:
            loop.call_soon_threadsafe(again.set if hanging.is_set() else healthy.set)

    def wait(event: threading.Event, seconds: float) -> bool:
        waited.add(seconds)
        return event.wait(0 if impatient.is_set() else 30)

    watch = LoopWatch(tell, every=0.001, patience=7.0, wait=wait)
    watch.start()
    try:
        await asyncio.wait_for(healthy.wait(), 30)
        assert not hanging.is_set()
        impatient.set()
        assert hanging.wait(30)  # which keeps the loop from going on until it is
        impatient.clear()
        await asyncio.wait_for(again.wait(), 30)
        assert waited == {7.0}
    finally:
        watch.stop()
