"""Resolvers beside the DNS responder that leave queries without an answer."""

import asyncio

from kubecore._native import Clock, DnsServer
from tests.native.test_dns import answer_to, ask_udp, query, upstream


async def test_one_that_does_not_answer_twice_is_asked_after_all_others_until_it_has_rested() -> None:
    asked = asyncio.Event()

    def be_silent(wire: bytes) -> None:
        asked.set()

    silent, first = await upstream(be_silent)
    good, second = await upstream(lambda wire: answer_to(wire, address="192.0.2.1"))
    clock = Clock.virtual(0.0)
    server = DnsServer("cluster.local", clock, upstreams=[first, second])
    address = server.listen("127.0.0.1", 0)
    for turn in range(3):
        waiting = asyncio.create_task(ask_udp(address, query(f"{turn}.example.org")))
        await asked.wait()
        asked.clear()
        # when it has rested one query tries it, and others need not wait
        for number in range(3 if turn == 2 else 0):
            assert (await ask_udp(address, query(f"{number}.meanwhile.example"))).addresses == ["192.0.2.1"]
        clock.advance(2.1)
        assert (await waiting).addresses == ["192.0.2.1"]
        if turn == 0:
            continue
        for number in range(3):
            assert (await ask_udp(address, query(f"{number}.{turn}.example"))).addresses == ["192.0.2.1"]
        assert silent.asked == turn + 1
        clock.advance(10.1)
    assert good.asked == 12
    server.shutdown()


async def test_one_that_takes_long_for_one_name_keeps_its_place() -> None:
    asked = asyncio.Event()

    def of_the_house(wire: bytes) -> bytes | None:
        if b"slow" not in wire:
            return answer_to(wire, address="192.0.2.9")
        asked.set()
        return None

    _, first = await upstream(of_the_house)
    _, second = await upstream(lambda wire: answer_to(wire, address="192.0.2.1"))
    clock = Clock.virtual(0.0)
    server = DnsServer("cluster.local", clock, upstreams=[first, second])
    address = server.listen("127.0.0.1", 0)
    for turn in range(3):
        waiting = asyncio.create_task(ask_udp(address, query(f"slow{turn}.example.org")))
        await asked.wait()
        asked.clear()
        clock.advance(2.1)
        assert (await waiting).addresses == ["192.0.2.1"]
        assert (await ask_udp(address, query(f"{turn}.house.example"))).addresses == ["192.0.2.9"]
    server.shutdown()


async def test_when_none_answers_the_client_hears_so() -> None:
    asked = asyncio.Event()

    def be_silent(wire: bytes) -> None:
        asked.set()

    resolver, where = await upstream(be_silent)
    clock = Clock.virtual(0.0)
    server = DnsServer("cluster.local", clock, upstreams=[where])
    address = server.listen("127.0.0.1", 0)
    reply = asyncio.create_task(ask_udp(address, query("example.org")))
    for _ in range(2):
        await asked.wait()
        asked.clear()
        clock.advance(2.1)
    assert (await reply).code == 2
    assert resolver.asked == 2
    server.shutdown()
