# ruff: noqa: ASYNC240
"""What the kubelet keeps on disk: volumes that change all at once, logs in CRI format, addresses handed out."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

import pytest

from kubecore.clock import VirtualClock
from kubecore.kubelet.logs import reading as log_reading
from kubecore.kubelet.logs.reading import LogOptions, read_log
from kubecore.kubelet.logs.writing import LogBook, LogRotation, LogWriter
from kubecore.kubelet.networks.network import AddressPool, NetworkError
from kubecore.kubelet.pods.back_off import BackOff
from kubecore.kubelet.volumes.atomic import File, write_atomically


def test_files_of_a_volume_are_switched_together_and_old_ones_go(tmp_path: Path) -> None:
    clock = VirtualClock()
    assert write_atomically(tmp_path, {"a": File(b"1"), "sub/b": File(b"2", 0o600)}, clock.now())
    assert (tmp_path / "a").read_bytes() == b"1"
    assert (tmp_path / "sub/b").stat().st_mode & 0o777 == 0o600
    assert not write_atomically(tmp_path, {"a": File(b"1"), "sub/b": File(b"2", 0o600)}, clock.now())
    later = clock.now() + timedelta(seconds=1)
    assert write_atomically(tmp_path, {"a": File(b"3")}, later)
    assert (tmp_path / "a").read_bytes() == b"3"
    assert sorted(entry.name for entry in tmp_path.iterdir() if not entry.name.startswith("..20")) == ["..data", "a"]


def test_a_log_is_not_for_everybody(tmp_path: Path) -> None:
    LogWriter(tmp_path / "0.log", VirtualClock(), LogBook()).close()
    assert (tmp_path / "0.log").stat().st_mode & 0o007 == 0


def test_log_lines_carry_time_stream_and_tag_and_long_ones_come_in_parts(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "0.log", VirtualClock(), LogBook())
    writer.write("stdout", b"one\ntw")
    writer.write("stderr", b"x" * 20000 + b"\n")
    writer.write("stdout", b"o\nrest")
    writer.close()
    lines = [line.split(b" ", 3) for line in (tmp_path / "0.log").read_bytes().splitlines()]
    assert lines[0] == [b"2026-01-01T00:00:00.000000000Z", b"stdout", b"F", b"one"]
    assert [(line[1], line[2], len(line[3])) for line in lines[1:]] == [
        (b"stderr", b"P", 16384),
        (b"stderr", b"F", 3616),
        (b"stdout", b"F", 3),
        (b"stdout", b"P", 4),
    ]


async def test_output_that_ends_without_a_newline_is_read_without_one(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "0.log", VirtualClock(), LogBook())
    writer.write("stdout", b"one\nDONE")
    writer.close()
    assert await output(tmp_path / "0.log", LogOptions()) == b"one\nDONE"
    assert await output(tmp_path / "0.log", LogOptions(tail=1)) == b"DONE"


async def test_a_log_is_rotated_by_size_and_only_so_many_files_stay(tmp_path: Path) -> None:
    clock = VirtualClock()
    writer = LogWriter(tmp_path / "0.log", clock, LogBook(LogRotation(100, 3)))
    for number in range(20):
        await clock.advance(1)
        writer.write("stdout", b"line %d\n" % number)
    writer.close()
    assert len(list(tmp_path.iterdir())) == 3
    assert (tmp_path / "0.log").read_bytes().endswith(b"line 19\n")


async def output(path: Path, options: LogOptions) -> bytes:
    return b"".join([piece async for piece in read_log(path, options, LogBook())])


async def test_logs_are_read_whole_by_tail_since_limit_and_with_timestamps(tmp_path: Path) -> None:
    clock = VirtualClock()
    path = tmp_path / "0.log"
    writer = LogWriter(path, clock, LogBook())
    for number in range(5):
        writer.write("stdout" if number % 2 else "stderr", b"%d\n" % number)
        await clock.advance(1)
    writer.close()
    assert await output(path, LogOptions()) == b"0\n1\n2\n3\n4\n"
    assert await output(path, LogOptions(tail=2)) == b"3\n4\n"
    assert await output(path, LogOptions(tail=0)) == b""
    assert await output(path, LogOptions(tail=99)) == b"0\n1\n2\n3\n4\n"
    assert await output(path, LogOptions(since=clock.now() - timedelta(seconds=2))) == b"3\n4\n"
    assert await output(path, LogOptions(limit_bytes=3)) == b"0\n1"
    assert await output(path, LogOptions(tail=1, timestamps=True)) == b"2026-01-01T00:00:04.000000000Z 4\n"


async def test_a_line_that_came_in_parts_has_one_timestamp(tmp_path: Path) -> None:
    clock = VirtualClock()
    path = tmp_path / "0.log"
    writer = LogWriter(path, clock, LogBook())
    writer.write("stdout", b"x" * 20000)
    await clock.advance(1)
    writer.write("stdout", b"x" * 20000 + b"\nlast\n")
    writer.close()
    assert [line[:32] for line in (await output(path, LogOptions(timestamps=True))).splitlines()] == [
        b"2026-01-01T00:00:00.000000000Z x",
        b"2026-01-01T00:00:01.000000000Z l",
    ]


async def test_what_is_no_line_of_a_log_is_left_out_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "0.log"
    stamp = b"2026-01-01T00:00:00.000000000Z"
    wrong = [b"no line", b"", stamp + b" stdin F a", b"yesterday stdout F a", stamp + b" stdout F", b"\xff x y z"]
    for number, line in enumerate(wrong):
        path.write_bytes(b"".join(one + b"\n" for one in (stamp + b" stdout F one", line, stamp + b" stderr F two")))
        assert await output(path, LogOptions()) == b"one\ntwo\n", line
        assert await output(path, LogOptions(tail=2)) == b"one\ntwo\n", line
        assert len(caplog.records) == 2 * number + 2, "once for each reading"


async def test_times_of_another_writer_are_told_and_compared_in_one_form(tmp_path: Path) -> None:
    """containerd leaves out zeros at the end, and tells the machine's local time."""
    path = tmp_path / "0.log"
    path.write_bytes(
        b"2026-01-01T02:00:00.5+02:00 stdout F first\n"
        b"2026-01-01T02:00:01+02:00 stdout F:x second\n"
        b"2026-01-01T00:00:01.25Z stdout P thi\n"
        b"2026-01-01T00:00:01.3+00:00 stdout F:x rd\n"
    )
    since = VirtualClock().now() + timedelta(seconds=1)
    assert await output(path, LogOptions(since=since, timestamps=True)) == (
        b"2026-01-01T02:00:01.000000000+02:00 second\n2026-01-01T00:00:01.250000000Z third\n"
    )
    assert await output(path, LogOptions(since=since - timedelta(seconds=0.5))) == b"first\nsecond\nthird\n"


async def test_who_follows_a_log_that_is_rotated_faster_than_he_reads_misses_nothing(tmp_path: Path) -> None:
    clock, book = VirtualClock(), LogBook(LogRotation(100, 50))
    path = tmp_path / "0.log"
    writer = LogWriter(path, clock, book)
    writer.write("stdout", b"first\n")
    following = read_log(path, LogOptions(follow=True), book)
    assert await anext(following) == b"first\n"
    for number in range(40):
        await clock.advance(1)
        writer.write("stdout", b"line %d\n" % number)
    writer.close()
    assert len(list(tmp_path.iterdir())) > 10
    rest = b"".join([piece async for piece in following])
    assert rest == b"".join(b"line %d\n" % number for number in range(40))


async def test_what_another_process_writes_just_before_it_rotates_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "0.log"
    writer = LogWriter(path, VirtualClock(), LogBook())
    writer.write("stdout", b"first\n")
    look = log_reading._successor

    def rotated_before(log: Path, file: BinaryIO) -> BinaryIO | None:
        """The reader has come to the end of the file."""
        if not list(tmp_path.glob("0.log.*")):
            writer.write("stdout", b"second\n")
            path.rename(tmp_path / "0.log.20260101-000000000000")
            path.write_bytes(b"2026-01-01T00:00:01.000000000Z stdout F third\n")
        return look(log, file)

    monkeypatch.setattr(log_reading, "_successor", rotated_before)
    assert await output(path, LogOptions()) == b"first\nsecond\nthird\n"


async def test_what_lies_beside_a_log_and_is_no_file_keeps_nobody(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    writer = LogWriter(path, VirtualClock(), LogBook(LogRotation(10, 5)))
    writer.write("stdout", b"first\n")
    following = read_log(path, LogOptions(), LogBook())
    assert await anext(following) == b"first\n"
    (tmp_path / "0.log.0").symlink_to("nowhere")
    (tmp_path / "0.log.9").mkdir()
    writer.write("stdout", b"second\n")
    assert [piece async for piece in following] == [b"second\n"]


def test_a_freed_address_rests_while_others_are_free() -> None:
    pool = AddressPool("10.244.0.0/29")
    assert [str(pool.take(owner)) for owner in "aab"] == ["10.244.0.2", "10.244.0.2", "10.244.0.3"]
    pool.release("a")
    assert [str(pool.take(owner)) for owner in "cdef"] == ["10.244.0.4", "10.244.0.5", "10.244.0.6", "10.244.0.2"]
    with pytest.raises(NetworkError, match="no address left"):
        pool.take("g")


def test_back_off_doubles_up_to_five_minutes() -> None:
    back_off, now = BackOff(), VirtualClock().now()
    delays = []
    for _ in range(8):
        assert back_off.remaining(now, now) == back_off.delay
        back_off.restarted(now, now)
        delays.append(back_off.delay.total_seconds())
    assert delays == [10, 20, 40, 80, 160, 300, 300, 300]
