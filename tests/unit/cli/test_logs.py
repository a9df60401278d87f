"""What entries of the log look like, for people and for machines."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator

import pytest

from kubecore.apiserver.audit import request_log
from kubecore.cli.logs import JsonFormatter, KlogFormatter, configure


def record(level: int, message: str, error: Exception | None = None, **values: object) -> logging.LogRecord:
    info = (type(error), error, None) if error is not None else None
    made = logging.LogRecord("kubecore.apiserver", level, "/x/server.py", 7, message, (), info)
    if values:
        made.values = values
    return made


@pytest.mark.parametrize(
    ("level", "letter"),
    [
        (logging.DEBUG, "I"),
        (logging.INFO, "I"),
        (logging.WARNING, "W"),
        (logging.ERROR, "E"),
        (logging.CRITICAL, "F"),
    ],
)
def test_a_line_begins_with_how_bad_it_is_and_when_it_was(level: int, letter: str) -> None:
    line = KlogFormatter().format(record(level, "it rains"))
    assert re.fullmatch(rf"{letter}\d{{4}} \d\d:\d\d:\d\d\.\d{{6}} +\d+ kubecore\.apiserver\] it rains", line)


def test_values_follow_the_message_on_one_line() -> None:
    line = KlogFormatter().format(record(logging.INFO, "HTTP", verb="GET", URI='/a"\n/b', resp=200))
    assert line.endswith('] "HTTP" verb="GET" URI="/a\\"\\n/b" resp=200')
    assert "\n" not in line


def test_json_has_values_beside_what_every_entry_has() -> None:
    entry = json.loads(JsonFormatter().format(record(logging.DEBUG, "HTTP", **{"audit-ID": "x", "resp": 200})))
    assert entry.pop("ts") > 1e12
    assert entry == {
        "caller": "server.py:7",
        "logger": "kubecore.apiserver",
        "msg": "HTTP",
        "v": 4,
        "audit-ID": "x",
        "resp": 200,
    }


def test_json_tells_failures_with_their_cause_and_on_one_line() -> None:
    line = JsonFormatter().format(record(logging.ERROR, "it failed", ValueError("one\ntwo")))
    entry = json.loads(line)
    assert "v" not in entry
    assert entry["err"].endswith("ValueError: one\ntwo")
    assert "\n" not in line


@pytest.fixture
def loggers() -> Iterator[None]:
    """As they were before, once the test has ended."""
    root, requests = logging.getLogger("kubecore"), logging.getLogger(request_log.log.name)
    before = root.level, requests.level, list(root.handlers)
    yield
    root.handlers[:] = before[2]
    root.setLevel(before[0])
    requests.setLevel(before[1])


@pytest.mark.parametrize(("verbosity", "wanted"), [(-1, False), (0, False), (2, False), (3, True), (99, True)])
def test_requests_are_logged_from_three_on(loggers: None, verbosity: int, wanted: bool) -> None:
    configure(verbosity=verbosity, file=None)
    assert request_log.is_wanted() is wanted
