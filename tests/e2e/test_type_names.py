"""Facts of Go's types, beside Go: names of fields' types, what query parameters are for, values of enumerations."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support import enum_facts, go_programs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
OPENAPI = ROOT / "kubecore" / "apiserver" / "openapi"


def test_the_names_are_gos() -> None:
    printed = subprocess.run(
        [go_programs.built("protobuf", "named")], capture_output=True, text=True, check=True
    ).stdout
    assert printed == (ROOT / "native/core/src/go/named.txt").read_text()


def test_parameters_are_described_as_gos_options_are() -> None:
    printed = subprocess.run(
        [go_programs.built("protobuf"), "parameters"], capture_output=True, text=True, check=True
    ).stdout
    assert printed == (OPENAPI / "parameters.json").read_text()


def test_fields_take_the_values_and_scalars_have_the_words_of_upstreams_openapi() -> None:
    module = go_programs.module_folder(ROOT / "tests/e2e/validation", "k8s.io/kubernetes")
    assert enum_facts.read(module) == (OPENAPI / "enums.json").read_text()
    assert enum_facts.read_scalars(module) == (OPENAPI / "scalars.json").read_text()
