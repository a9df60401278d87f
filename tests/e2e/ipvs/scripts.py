"""Scripts of what happens to one virtual service each: the same for the kernel's IPVS and for ours.

A script is JSON. Its steps are lists of a name and arguments:
    add|edit SERVER WEIGHT UPPER LOWER      a destination, with its thresholds (0: none)
    remove SERVER
    connect SOURCE PORT TARGET              answered by the number of the server it got to, or null
                                            connections are numbered from 0 on
    half_close|server_half_close|close|reset CONNECTION
    counts                                  answered by [server, weight, active, inactive] of each destination
    wait                                    long enough for connections that were reset, and UDP ones that were closed
Endings (half_close ... reset) of a connection that got to no server, or to one that is removed, are passed over.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

JSON = dict[str, Any]
WAIT_SECONDS = 13
"""A connection that was reset is forgotten after 10 s, a UDP one told to after 5 s."""
SCHEDULERS = ("rr", "wrr", "lc", "wlc", "sed", "nq", "sh", "dh", "lblc", "mh", "fo", "ovf")
HASHED = ("sh", "mh")
BY_TARGET = ("dh", "lblc")
SERVER_PORT = 9000
"""Where servers listen. By a firewall mark any port is asked for, and some connections keep it."""
SERVERS, TARGETS, SOURCES = 8, 24, 60
WEIGHTS = (0, 1, 1, 2, 3, 4, 6, 12, 100)
SHORT_SECONDS, LONG_SECONDS = 6, 600
EVERYBODY = "255.255.255.255"


def scripts() -> list[JSON]:
    found: list[JSON] = []
    for scheduler in SCHEDULERS:
        for protocol in ("TCP", "UDP"):
            found.append(_script(len(found), scheduler, protocol))
        found.append(_script(len(found), scheduler, "TCP", name="thresholds", thresholds=True))
        found.append(_script(len(found), scheduler, "TCP", name="persistent", persistence=LONG_SECONDS))
    for scheduler in BY_TARGET:
        found.append(_script(len(found), scheduler, "TCP", name="mark", mark=True))
        found.append(_script(len(found), scheduler, "TCP", name="mark, thresholds", mark=True, thresholds=True))
    for scheduler in HASHED:
        found.append(_script(len(found), scheduler, "TCP", name="port", hash_port=True))
        found.append(_script(len(found), scheduler, "TCP", name="fallback", fallback=True, thresholds=True))
        found.append(_script(len(found), scheduler, "UDP", name="port, fallback", hash_port=True, fallback=True))
    found.append(_script(len(found), "rr", "TCP", name="mark", mark=True))
    found.append(_script(len(found), "rr", "TCP", name="mark, persistent", mark=True, persistence=SHORT_SECONDS))
    for netmask in ("255.255.255.0", "255.0.0.0"):
        name = f"persistent, {netmask}"
        found.append(_script(len(found), "wrr", "UDP", name=name, persistence=SHORT_SECONDS, netmask=netmask))
    return found


def _script(
    number: int,
    scheduler: str,
    protocol: str,
    *,
    name: str = "plain",
    mark: bool = False,
    thresholds: bool = False,
    persistence: int = 0,
    netmask: str = EVERYBODY,
    hash_port: bool = False,
    fallback: bool = False,
) -> JSON:
    dice = random.Random(number)
    steps = _Steps(dice, first_port=10000 + number, targets=TARGETS if mark else 1, thresholds=thresholds)
    return {
        "name": f"{scheduler}, {protocol}, {name}",
        "scheduler": scheduler,
        "protocol": protocol,
        "mark": number + 1 if mark else 0,
        "port": SERVER_PORT if mark else 80,
        "targets": [f"10.96.{number}.{target + 1}" for target in range(TARGETS if mark else 1)],
        "servers": [f"10.200.{number}.{server + 1}" for server in range(SERVERS)],
        "persistence": persistence,
        "netmask": netmask,
        "hash_port": hash_port,
        "fallback": fallback,
        "wait_seconds": WAIT_SECONDS,
        "steps": list(steps.all()),
    }


class _Steps:
    """Random but for its order: a few servers, connections, endings, changes; all that again after a wait."""

    def __init__(self, dice: random.Random, *, first_port: int, targets: int, thresholds: bool) -> None:
        self.dice, self.first_port, self.targets, self.thresholds = dice, first_port, targets, thresholds
        self.present: list[int] = []
        self.open: list[int] = []
        self.half_closed: set[int] = set()
        self.connections = 0
        self.weights: dict[int, int] = {}
        # Some of one network, so that a netmask matters, and some from anywhere.
        near = [f"10.1.1.{host}" for host in range(1, SOURCES // 3)]
        far = [f"10.{dice.randint(1, 90)}.{dice.randint(0, 255)}.{dice.randint(1, 254)}" for _ in near for _ in "ab"]
        self.sources = near + far

    def all(self) -> Iterator[list[Any]]:
        for _ in range(3):
            yield self.add()
        for part in range(3):
            if part:
                yield from self.reset_half_closed()
                yield ["wait"]
                yield ["counts"]
            for _ in range(4):
                yield from self.connect(self.dice.randint(4, 9))
                yield from self.end(self.dice.randint(0, 4))
                yield ["counts"]
                yield self.change()
            yield from self.connect(6)
            yield ["counts"]

    def connect(self, count: int) -> Iterator[list[Any]]:
        for _ in range(count):
            number = self.connections
            self.connections += 1
            self.open.append(number)
            target = self.dice.randrange(self.targets)
            yield ["connect", self.dice.choice(self.sources), self.first_port + number * 200, target]

    def end(self, count: int) -> Iterator[list[Any]]:
        for _ in range(min(count, len(self.open))):
            how = self.dice.choice(["half_close", "server_half_close", "close", "close", "reset"])
            number = self.dice.choice(self.open)
            if "half" in how:
                self.half_closed.add(number)
            else:
                self.open.remove(number)
            yield [how, number]

    def reset_half_closed(self) -> Iterator[list[Any]]:
        """The kernel would forget one after a minute, which a busy machine may take for the rest."""
        for number in sorted(self.half_closed.intersection(self.open)):
            self.open.remove(number)
            yield ["reset", number]
        self.half_closed.clear()

    def change(self) -> list[Any]:
        choice = self.dice.random()
        if choice < 0.4 and len(self.present) < SERVERS:
            return self.add()
        if choice < 0.6 and len(self.present) > 2:
            return ["remove", self.present.pop(self.dice.randrange(len(self.present)))]
        number = self.dice.choice(self.present)
        return ["edit", number, *self.settings(number)]

    def add(self) -> list[Any]:
        number = self.dice.choice([server for server in range(SERVERS) if server not in self.present])
        self.present.append(number)
        return ["add", number, *self.settings(number)]

    def settings(self, number: int) -> list[int]:
        """Weight, upper and lower threshold. Ours is not told of an edit that changes nothing, so the weight does."""
        weight = self.dice.choice([one for one in WEIGHTS if one != self.weights.get(number)])
        self.weights[number] = weight
        if not self.thresholds:
            return [weight, 0, 0]
        upper = self.dice.choice([0, 3, 5, 8])
        return [weight, upper, self.dice.choice([0, max(upper - 2, 0)])]
