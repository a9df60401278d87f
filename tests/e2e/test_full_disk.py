"""A server on whose disk there is no room left, neither for the audit log nor for what it says on standard error."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import urllib.request
from functools import partial
from pathlib import Path

import pytest

from tests.support.process import PATIENCE, ROOT

pytestmark = pytest.mark.slow

POLICY = '{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}]}'


def test_who_can_write_neither_its_log_nor_a_complaint_answers_all_the_same(tmp_path: Path) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text(POLICY)
    command = [sys.executable, "-m", "kubecore", "apiserver", "--data-dir", str(tmp_path / "data")]
    command += ["--secure-port", "0", "--grpc-port", "0", f"--audit-policy-file={policy}", "--audit-log-path=/dev/full"]
    one_core = {min(os.sched_getaffinity(0))}
    with Path("/dev/full").open("w") as full:
        server = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=full,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            # A single thread serves there: no other stands in for one that has ended.
            preexec_fn=partial(os.sched_setaffinity, 0, one_core),
        )
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        assert line.startswith("kubecore is ready: "), line
        url = line.removeprefix("kubecore is ready: ").split(" ")[0]
        for _ in range(3):
            unverified = ssl._create_unverified_context()
            with urllib.request.urlopen(f"{url}/version", timeout=PATIENCE, context=unverified) as answer:
                assert answer.status == 200
    finally:
        server.kill()
        server.wait()
        if server.stdout is not None:
            server.stdout.close()
