"""A loop that hangs is told of, though it cannot tell."""

from __future__ import annotations

import asyncio
import threading

from kubecore.kubelet.loop_watch import LoopWatch


async def test_a_loop_that_hangs_is_told_of_and_that_it_goes_on_again() -> None:
    loop, healthy, hanging = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def tell(answers: bool) -> None:
        if answers:
            loop.call_soon_threadsafe(healthy.set)
        else:
            hanging.set()

    watch = LoopWatch(tell, every=0.001, patience=0.05)
    watch.start()
    try:
        await asyncio.wait_for(healthy.wait(), 30)
        assert hanging.wait(30)  # which keeps the loop from going on until it is
        healthy.clear()
        await asyncio.wait_for(healthy.wait(), 30)
    finally:
        watch.stop()
