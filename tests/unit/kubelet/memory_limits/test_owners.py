"""Whose processes are, as /proc tells of them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kubecore.kubelet.runtime.leftovers import VARIABLE
from kubecore.kubelet.runtime.memory_limits.owners import Owners, Process

ROOTS = {Process(100, 5): "web"}


@dataclass
class Proc:
    """A /proc of a test's own."""

    folder: Path
    owners: Owners = field(init=False)

    def __post_init__(self) -> None:
        self.owners = Owners(self.folder)
        self.born(1, 0, began=1)
        self.born(50, 1, began=2)
        self.born(100, 50, began=5, session=100)

    def born(self, pid: int, parent: int, *, began: int = 9, session: int = 1, mark: str = "") -> None:
        process = self.folder / str(pid)
        process.mkdir(exist_ok=True)
        fields = [f"{pid} (a) b) S {parent} {pid} {session} 0 -1 4194304", *["0"] * 12, str(began), "0", "0"]
        (process / "stat").write_text(" ".join(fields))
        (process / "environ").write_bytes(f"A=b\0{VARIABLE}={mark}\0".encode())

    def ends(self, *pids: int) -> None:
        for pid in pids:
            shutil.rmtree(self.folder / str(pid))

    def of_web(self, **marks: str) -> set[int]:
        return {one.pid for one in self.owners.look(ROOTS, marks).get("web", ())}


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


def test_a_container_has_its_first_process_and_all_that_come_from_it(proc: Proc) -> None:
    proc.born(103, 102)
    proc.born(102, 101)
    proc.born(101, 100)
    proc.born(200, 50)
    assert proc.of_web() == {100, 101, 102, 103}


def test_a_process_stays_its_containers_when_its_parent_ends(proc: Proc) -> None:
    proc.born(101, 100)
    proc.born(102, 101)
    assert proc.of_web() == {100, 101, 102}
    proc.ends(101)
    proc.born(102, 1)
    proc.born(103, 102)
    assert proc.of_web() == {100, 102, 103}


def test_another_process_with_the_number_of_one_that_has_ended_is_not_the_containers(proc: Proc) -> None:
    proc.born(101, 100, began=6)
    assert proc.of_web() == {100, 101}
    proc.ends(100, 101)
    assert proc.of_web() == set()
    proc.born(100, 50, began=70)
    proc.born(101, 100, began=71)
    assert proc.of_web() == set()


def test_a_reused_number_is_noticed_though_nobody_saw_it_free(proc: Proc) -> None:
    proc.born(101, 100, began=6)
    assert proc.of_web() == {100, 101}
    proc.born(101, 50, began=80)
    for _ in range(32):
        proc.of_web()
    assert proc.of_web() == {100}


def test_a_containers_first_process_may_have_the_number_of_one_that_has_just_ended(proc: Proc) -> None:
    proc.born(101, 100, began=6)
    assert proc.of_web() == {100, 101}
    proc.born(101, 50, began=70)
    found = proc.owners.look({**ROOTS, Process(101, 70): "other"}, {})
    assert found == {"web": {Process(100, 5)}, "other": {Process(101, 70)}}


def test_who_was_seen_before_it_was_known_whose_he_is_is_found(proc: Proc) -> None:
    proc.born(101, 100)
    proc.born(102, 101)
    assert proc.owners.look({}, {}) == {}
    assert proc.of_web() == {100, 101, 102}


def test_an_orphan_is_known_by_its_session_or_its_mark(proc: Proc) -> None:
    proc.born(101, 1, session=100)
    proc.born(102, 1, session=102, mark="node-web")
    proc.born(103, 102, session=102)
    proc.born(104, 1, session=104, mark="node-other")
    assert proc.of_web(**{"node-web": "web"}) == {100, 101, 102, 103}


def test_a_session_whose_first_process_is_another_one_by_now_says_nothing(proc: Proc) -> None:
    proc.ends(100)
    proc.born(100, 50, began=70, session=100)
    proc.born(101, 1, session=100, began=71)
    assert proc.of_web() == set()
