"""A webhook that leads elsewhere is not followed, whatever it is asked about: what it was sent is for nobody else
(CVE-2020-8561; those of admission and conversion have tests of their own).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from kubecore.apiserver.admission.options import AdmissionOptions
from kubecore.apiserver.audit.options import AuditOptions, WebhookOptions
from kubecore.apiserver.audit.policy import load
from kubecore.apiserver.authentication.options import AuthenticationOptions, TokenWebhookOptions
from kubecore.apiserver.authorization.options import AuthorizationOptions
from kubecore.apiserver.authorization.options import WebhookOptions as AuthorizationWebhook
from tests.support.conversion_webhook import ConversionWebhook, serving
from tests.support.review_webhook import kubeconfig

from .conftest import Api, pod
from .http import Http
from .serving import served, whoami

# By which a client that follows sends the same again, with its body.
pytestmark = [pytest.mark.asyncio, pytest.mark.parametrize("code", [307, 308])]

JSON = dict[str, Any]
USER = {"username": "jane", "groups": ["system:masters"]}


class Redirecting(ConversionWebhook):
    """Leads each new caller to itself, where it would say what is wished for."""

    def __init__(self, code: int, **status: Any) -> None:
        super().__init__(answer=self._said)
        self._code, self._status, self._led = code, status, False

    def _said(self, review: JSON) -> Any:
        if not self._led:
            self._led = True
            return web.Response(status=self._code, headers={"Location": f"{self.url}?followed"})
        return {**review, "status": self._status}


async def test_one_of_tokens(tmp_path: Path, code: int) -> None:
    async with serving(Redirecting(code, authenticated=True, user=USER)) as webhook:
        options = TokenWebhookOptions(config_file=kubeconfig(tmp_path, webhook), version="v1")
        async with (
            served(tmp_path, authentication=AuthenticationOptions(webhook=options)) as server,
            Http(server, tmp_path, token="wanted") as http,
        ):
            assert (await whoami(http))[0] == 401
            assert len(webhook.reviews) == 1
            assert (await whoami(http))[1]["username"] == "jane", "it is asked anew, and says so itself"


async def test_one_of_accesses(tmp_path: Path, code: int) -> None:
    async with serving(Redirecting(code, allowed=True)) as webhook:
        options = AuthorizationWebhook(config_file=kubeconfig(tmp_path, webhook), version="v1")
        alone = {"authorization_modes": ("Webhook",), "authorization": AuthorizationOptions(webhook=options)}
        async with served(tmp_path, **alone) as server:
            api = Api(server.transport(username="jane"))
            status, answer = await api.list("v1/configmaps")
            assert status == 500, answer
            assert len(webhook.reviews) == 1
            assert (await api.list("v1/configmaps"))[0] == 200, "it is asked anew, and says so itself"


async def test_one_of_images(tmp_path: Path, code: int) -> None:
    async with serving(Redirecting(code, allowed=True)) as webhook:
        file = kubeconfig(tmp_path, webhook)
        text = f'{{"imagePolicy": {{"kubeConfigFile": "{file}", "defaultAllow": false}}}}'
        options = AdmissionOptions(enable=("ImagePolicyWebhook",), configuration={"ImagePolicyWebhook": text})
        async with served(tmp_path, admission=options) as server:
            api = Api(server.transport(username="admin", groups=["system:masters"]))
            await api.create("v1/serviceaccounts", {"metadata": {"name": "default"}})
            status, answer = await api.create("v1/pods", pod("p"))
            assert status == 403, answer
            assert len(webhook.reviews) == 1
            assert (await api.create("v1/pods", pod("p")))[0] == 201, "it is asked anew, and says so itself"


async def test_one_of_the_audit(tmp_path: Path, code: int, caplog: pytest.LogCaptureFixture) -> None:
    policy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- {level: None, users: ['system:apiserver']}\n"
    async with serving(Redirecting(code)) as webhook:
        options = AuditOptions(
            policy=load(f"{policy}- level: Metadata\n"),
            webhook=WebhookOptions(config_file=kubeconfig(tmp_path, webhook), wait=3600.0),
        )
        async with served(tmp_path, audit=options) as server:
            await Api(server.transport(username="admin", groups=["system:masters"])).list("v1/configmaps")
            pair = server.issue_client_certificate("admin", ["system:masters"])
            async with Http(server, tmp_path, pair=pair) as http:
                assert (await http.call("GET", "/version")).status == 200
    assert len(webhook.reviews) == 1, "all that was waiting, once"
    assert f"{code}" in caplog.text
