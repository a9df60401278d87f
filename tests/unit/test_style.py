"""Style is a test: sizes of files and functions, names of modules, one clock.

The exceptions are a ratchet: an entry may shrink or go, never grow.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINES_OF_A_FILE = 500
LINES_OF_A_FUNCTION = 70

LONGER_FILES = {"native/src/front.rs": 520}
SAYS_NOTHING = {"utils", "util", "helpers", "helper", "common", "misc", "stuff"}
CLOCK = "kubecore/clock.py"
TELLS_TIME = re.compile(r"\btime\.(time|monotonic|sleep)\(|\bdatetime\.(now|utcnow)\(|\basyncio\.sleep\(")


def sources(folder: str, pattern: str) -> Iterator[Path]:
    for path in sorted((ROOT / folder).rglob(pattern)):
        if not path.stem.endswith(("_pb2", "_pb2_grpc")):
            yield path


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


PYTHON = [
    *sources("kubecore", "*.py"),
    *sources("tests", "*.py"),
    *sources("benches", "*.py"),
    *sources("examples", "*.py"),
]
RUST = list(sources("native", "*.rs"))


def test_a_file_is_short_enough_to_be_read() -> None:
    too_long = {}
    for path in [*PYTHON, *RUST]:
        lines = len(path.read_text().splitlines())
        if lines > LONGER_FILES.get(relative(path), LINES_OF_A_FILE):
            too_long[relative(path)] = lines
    assert too_long == {}, "split them by what they do"


def test_a_function_is_short_enough_to_be_read() -> None:
    too_long = {}
    for path in PYTHON:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                lines = node.end_lineno - node.lineno + 1
                if lines > LINES_OF_A_FUNCTION:
                    too_long[f"{relative(path)}:{node.name}"] = lines
    assert too_long == {}


def test_a_module_is_named_for_what_it_does() -> None:
    assert [relative(path) for path in [*PYTHON, *RUST] if path.stem.lower() in SAYS_NOTHING] == []


def test_every_wait_goes_through_the_one_clock() -> None:
    telling = {relative(path) for path in sources("kubecore", "*.py") if TELLS_TIME.search(path.read_text())} - {CLOCK}
    assert telling == set()


def test_every_module_of_the_package_is_used() -> None:
    """A module nobody imports is dead, unless it is run by name."""
    words = {"__init__", "__main__"}
    for path in [*PYTHON, *sources("build_backend", "*.py")]:
        words.update(re.findall(r"\w+", path.read_text()))
    unused = [relative(path) for path in sources("kubecore", "*.py") if path.stem not in words]
    assert unused == []


def test_every_line_of_the_semantics_has_a_test_named_after_it() -> None:
    """../shared/API_SEMANTICS.md has 37 lines."""
    tests = "\n".join(path.read_text() for path in sources("tests", "*.py"))
    assert {int(number) for number in re.findall(r"def test_(\d\d)_", tests)} == set(range(1, 38))
