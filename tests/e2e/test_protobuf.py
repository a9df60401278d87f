"""Protobuf as Kubernetes' own Go code has it: types, encoders, and client-go against a cluster."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from kubecore.api import protobuf
from tests.support import go_programs
from tests.support.process import ROOT, RunningCluster, running_cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SOURCES = Path(__file__).parent / "protobuf"
TABLE = ROOT / "native/core/src/protobuf/messages.txt"
OPENAPI_TABLE = ROOT / "native/core/src/protobuf/openapi.txt"
VECTORS = ROOT / "native/core/tests/protobuf_vectors"


@pytest.fixture(scope="module")
def program() -> str:
    return str(go_programs.built("protobuf"))


def bare(value: object) -> object:
    """Without nulls, which say what absence says."""
    if isinstance(value, dict):
        return {name: bare(one) for name, one in value.items() if one is not None}
    return [bare(one) for one in value] if isinstance(value, list) else value


def test_the_messages_are_those_of_gos_types(program: str) -> None:
    printed = subprocess.run([program, "facts"], capture_output=True, text=True, check=True).stdout
    table = [line for line in TABLE.read_text().splitlines() if not line.startswith("#")]
    assert table == printed.splitlines()


def test_the_messages_of_openapi_are_gnostics(program: str) -> None:
    printed = subprocess.run([program, "openapi"], capture_output=True, text=True, check=True).stdout
    table = [line for line in OPENAPI_TABLE.read_text().splitlines() if not line.startswith("#")]
    assert table == printed.splitlines()


def test_the_vectors_are_what_go_writes(program: str, tmp_path: Path) -> None:
    subprocess.run([program, "vectors", str(tmp_path)], check=True)
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert written == {path.name: path.read_bytes() for path in VECTORS.iterdir()}


def test_kubernetes_own_samples_of_every_kind_are_read_and_written(program: str) -> None:
    """Every field of every kind is set in the samples that the module k8s.io/api carries for its own tests."""
    asked = ["go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/api"]
    module = subprocess.run(asked, cwd=SOURCES, capture_output=True, text=True, check=True).stdout.strip()
    samples = sorted(Path(module, "testdata/HEAD").glob("*.json"))
    assert samples
    read = 0
    for sample in samples:
        text = orjson.loads(sample.read_bytes())
        if not protobuf.has_form(text.get("apiVersion", ""), text.get("kind", "")):
            continue
        assert same(protobuf.decode(sample.with_suffix(".pb").read_bytes()), text), sample.name
        assert same(protobuf.decode(protobuf.encode(orjson.dumps(text))), text), sample.name
        read += 1
    assert read > 120


def same(decoded: bytes, text: Any) -> bool:
    return bare(orjson.loads(decoded)) == bare(text)


@pytest.fixture
def whole(tmp_path: Path) -> Iterator[RunningCluster]:
    """A cluster that serves all versions, those that are off by default too."""
    with running_cluster(tmp_path, "--nodes", "0", "--runtime-config", "api/all=true") as running:
        yield running


def test_client_go_sees_the_same_in_protobuf_and_json(program: str, whole: RunningCluster) -> None:
    done = subprocess.run(
        [program, "compare", str(whole.kubeconfig)], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    for words in ("compared", "synced", "reviewed", "described"):
        assert words in done.stdout
