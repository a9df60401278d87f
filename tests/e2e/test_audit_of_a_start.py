"""Who did what is told of the cluster itself, too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.process import running_cluster

pytestmark = pytest.mark.slow

POLICY = '{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}]}'


def test_what_a_cluster_does_by_itself_is_not_the_administrators_doing(tmp_path: Path) -> None:
    policy, log = tmp_path / "policy.json", tmp_path / "audit.log"
    policy.write_text(POLICY)
    with running_cluster(tmp_path / "data", f"--audit-policy-file={policy}", f"--audit-log-path={log}"):
        pass
    users = {json.loads(line)["user"]["username"] for line in log.read_text().splitlines()}
    assert {"system:kube-controller-manager", "system:kube-scheduler", "system:apiserver"} <= users
    assert "kubernetes-admin" not in users
