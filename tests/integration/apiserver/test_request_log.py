"""The log of requests (`-v 3`), in the words of kube-apiserver's: one entry each, with its id."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from kubecore.apiserver.audit import request_log
from kubecore.apiserver.audit.options import AuditOptions, LogOptions, WebhookOptions
from kubecore.apiserver.audit.policy import load
from tests.support.conversion_webhook import ConversionWebhook, serving
from tests.support.review_webhook import kubeconfig

from .http import Http
from .serving import served

pytestmark = pytest.mark.asyncio

MAPS = "/api/v1/namespaces/default/configmaps"
LOGGER = "kubecore.apiserver.requests"
NO_SECRETS = (
    "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n"
    "- {level: None, resources: [{resources: [secrets]}]}\n- level: RequestResponse"
)


async def entries(folder: Path, caplog: pytest.LogCaptureFixture, audit: AuditOptions) -> dict[str, dict[str, Any]]:
    """By the ids of requests: a write, a read, and one of a Secret that is not there."""
    with caplog.at_level(logging.DEBUG, LOGGER):
        async with served(folder, audit=audit) as server:
            pair = server.issue_client_certificate("bob", ["system:masters"])
            async with Http(server, folder, pair=pair) as http:
                body = {"metadata": {"name": "a"}, "data": {"k": "hidden"}}
                await http.call("POST", MAPS, body, {"Audit-ID": "write", "User-Agent": "tester"})
                await http.call("GET", f"{MAPS}?limit=5", headers={"Audit-ID": "read" + " " * 100 + "more"})
                lost = "/api/v1/namespaces/default/secrets/none"
                await http.call("GET", lost, headers={"Audit-ID": "secret"})
    assert "hidden" not in caplog.text
    told = [record for record in caplog.records if record.name == LOGGER]
    assert {record.getMessage() for record in told} == {"HTTP"}
    found = [getattr(record, "values", {}) for record in told]
    assert all(len(one["audit-ID"]) <= 64 for one in found)
    return {one["audit-ID"].strip(): one for one in found if one["user"] == "bob"}


async def test_reads_and_writes_are_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    told = await entries(tmp_path, caplog, AuditOptions())
    assert list(told) == ["write", "read", "secret"]
    assert told["write"].pop("latency").endswith("ms")
    assert told["write"] == {
        "verb": "CREATE",
        "URI": MAPS,
        "userAgent": "tester",
        "audit-ID": "write",
        "srcIP": "127.0.0.1",
        "user": "bob",
        "resp": 201,
    }
    assert (told["read"]["URI"], told["read"]["resp"]) == (f"{MAPS}?limit=5", 200)
    assert told["secret"]["resp"] == 404


async def test_beside_an_audit_those_are_logged_that_its_policy_wants(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = LogOptions(path=str(tmp_path / "audit.log"))
    told = await entries(tmp_path, caplog, AuditOptions(policy=load(NO_SECRETS), log=log))
    assert list(told) == ["write", "read"]
    assert b'"auditID":"write"' in (tmp_path / "audit.log").read_bytes()


async def test_a_webhook_of_the_audit_gets_what_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sent: list[str] = []

    def take(lists: dict[str, Any]) -> dict[str, Any]:
        sent.extend(event["auditID"] for event in lists["items"])
        return {}

    webhook = ConversionWebhook(answer=take)
    async with serving(webhook):
        hook = WebhookOptions(config_file=kubeconfig(tmp_path, webhook), wait=0.01)
        told = await entries(tmp_path, caplog, AuditOptions(policy=load(NO_SECRETS), webhook=hook))
    assert list(told) == ["write", "read"]
    assert "write" in sent


async def test_by_default_no_request_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, LOGGER):
        async with served(tmp_path) as server:
            pair = server.issue_client_certificate("bob", ["system:masters"])
            async with Http(server, tmp_path, pair=pair) as http:
                await http.call("GET", MAPS)
    assert [record for record in caplog.records if record.name == LOGGER] == []


async def test_whoever_logs_all_that_there_is_has_not_asked_for_every_request(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        assert not request_log.is_wanted()
