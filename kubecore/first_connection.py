"""Servers that hardly anybody asks are made when somebody does."""

from __future__ import annotations

import asyncio
import socket


async def first_connection(listener: socket.socket) -> None:
    """Until one waits to be accepted."""
    loop, somebody = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(listener.fileno(), somebody.set)
    try:
        await somebody.wait()
    finally:
        loop.remove_reader(listener.fileno())
