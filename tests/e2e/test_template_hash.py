"""Hashes in names of ReplicaSets and ControllerRevisions beside Go's own print of the same templates."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

from kubecore import _native
from tests.support import go_programs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "tests/e2e/protobuf"
TABLE = ROOT / "native/core/src/go/pod_template.txt"
JSON = dict[str, Any]

AMOUNTS = ["0", "100m", "1", "1500m", "1.5", "0.5", "10", "1000", "100k", "1e3", "5E2", "1M", "3n", "-2", "+7", "007"]
AMOUNTS += ["64Mi", "500Mi", "1Gi", "1.5Gi", "12Ki", "1Ti", "1Pi", "7Ei", "20Ei", "1P", "123456789012345678", "9E"]
AMOUNTS += ["12345678901234567890", "0.1234567891", "0.1Ki", "0.0001Ki", "1.000", "0.000"]


@pytest.fixture(scope="module")
def program() -> str:
    return str(go_programs.built("protobuf", "hashes"))


def test_the_types_are_gos(program: str) -> None:
    printed = subprocess.run([program, "facts"], capture_output=True, text=True, check=True).stdout
    assert printed == TABLE.read_text()


def without_times(value: Any) -> Any:
    """No template has any that is set, nor entries of field managers."""
    if isinstance(value, dict):
        dropped = ("creationTimestamp", "deletionTimestamp", "managedFields")
        return {name: without_times(one) for name, one in value.items() if name not in dropped}
    return [without_times(one) for one in value] if isinstance(value, list) else value


def samples() -> list[JSON]:
    """One with every field that there is, one with none, and some as they come by defaulting."""
    asked = ["go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/api"]
    module = subprocess.run(asked, cwd=SOURCES, capture_output=True, text=True, check=True).stdout.strip()
    full = orjson.loads(Path(module, "testdata/HEAD/apps.v1.Deployment.json").read_bytes())["spec"]["template"]
    container = {
        "name": "c",
        "image": "nginx",
        "command": [],
        "ports": [{"containerPort": 80, "protocol": "TCP"}],
        "env": [{"name": "A", "value": 'with "quotes" <and> ümlaut'}, {"name": "EMPTY"}],
        "resources": {"requests": {"memory": "64Mi", "cpu": "100m"}, "limits": {}},
        "livenessProbe": {"httpGet": {"port": 80, "path": "/"}, "periodSeconds": 10},
        "readinessProbe": {"httpGet": {"port": "web"}},
        "terminationMessagePath": "/dev/termination-log",
    }
    spec = {
        "containers": [container],
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "securityContext": {},
        "nodeSelector": {"b": "2", "a": "1", "a.b": "3", "a-b": "4"},
        "tolerations": [{"operator": "Exists", "tolerationSeconds": 0}],
        "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "emptyDir": {"sizeLimit": "1Gi"}}],
    }
    usual = {"metadata": {"creationTimestamp": None, "labels": {"app": "a"}}, "spec": spec}
    return [without_times(full), {}, {"metadata": {}, "spec": {"containers": []}}, usual]


def test_templates_are_printed_and_hashed_as_go_does(program: str) -> None:
    compare([program], samples())


def test_all_sorts_of_amounts_are_too(program: str) -> None:
    containers = [{"name": "c", "resources": {"requests": {"cpu": amount}}} for amount in AMOUNTS]
    compare([program, "given"], [{"spec": {"containers": [one]}} for one in containers])


def compare(command: list[str], given: list[JSON]) -> None:
    templates = [orjson.dumps(one) for one in given]
    done = subprocess.run(command, input=b"\n".join(templates), capture_output=True, check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    for template, answer in zip(templates, answers, strict=True):
        assert _native.printed_template(template) == answer["Printed"]
        assert _native.template_hash(template, None) == answer["Hash"]
        assert _native.template_hash(template, 3) == answer["Third"]
