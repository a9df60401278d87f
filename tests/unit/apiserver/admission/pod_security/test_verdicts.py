"""What the levels say of pods, as of each version of Kubernetes, word for word.

`verdicts.json` has pods, and by level the versions from which on the detail is another one: what upstream's policy
library (k8s.io/pod-security-admission v0.35.0) says of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from kubecore.apiserver.admission.pod_security.evaluation import judge
from kubecore.apiserver.admission.pod_security.policy import LATEST, PRIVILEGED, Standard, version_of

CASES: dict[str, Any] = orjson.loads((Path(__file__).parent / "verdicts.json").read_bytes())
NEWEST = 36


@pytest.mark.parametrize("name", CASES)
def test_a_pod_is_judged_in_upstreams_words(name: str) -> None:
    pod = CASES[name]["pod"]
    said = {level: {} for level in ("baseline", "restricted")}  # type: dict[str, dict[int | None, str]]
    for standard, detail in CASES[name]["said"]:
        level, _, version = standard.partition(":")
        said[level][version_of(version)] = detail
    for level, changes in said.items():
        expected = ""
        for version in range(NEWEST + 1):
            expected = changes.get(version, expected)
            verdict = judge(Standard(level, version), pod["metadata"], pod["spec"])
            assert (verdict.detail, verdict.allowed) == (expected, not expected), (level, version)
        assert judge(Standard(level, LATEST), pod["metadata"], pod["spec"]).detail == expected


def test_privileged_allows_everything() -> None:
    pod = CASES["everything"]["pod"]
    assert judge(Standard(PRIVILEGED), pod["metadata"], pod["spec"]).allowed


def test_the_reason_leaves_out_what_is_of_one_pod() -> None:
    pod = CASES["host"]["pod"]
    assert judge(Standard("baseline"), pod["metadata"], pod["spec"]).reason == "host namespaces"
