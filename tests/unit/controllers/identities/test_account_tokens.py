import base64
from typing import Any

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.controllers.identities.account_tokens import SECRET_TYPE, AccountTokensController
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running, names

NAME, UID = "kubernetes.io/service-account.name", "kubernetes.io/service-account.uid"


def issue(**said: str) -> str:
    return "token of " + ",".join(f"{key}={value}" for key, value in sorted(said.items()))


async def start(running: Running, root_ca: bytes = b"CA") -> None:
    await running.start(AccountTokensController(running.context, issue, root_ca))


def secret(name: str = "kept", account: str = "robot", **fields: Any) -> Object:
    annotations = {NAME: account, **fields.pop("annotations", {})}
    return {"metadata": {"name": name, "annotations": annotations}, "type": SECRET_TYPE, **fields}


def held(api: FakeAPI, name: str = "kept") -> dict[str, str]:
    found = api.get("secrets", name)
    assert found is not None
    return {key: base64.b64decode(value).decode() for key, value in (found.get("data") or {}).items()}


async def test_a_secret_gets_a_token_of_its_account(api: FakeAPI, running: Running) -> None:
    account = api.add("serviceaccounts", {"metadata": {"name": "robot"}})
    api.add("secrets", secret())
    await start(running)
    uid = meta.uid(account)
    assert held(api) == {
        "ca.crt": "CA",
        "namespace": "default",
        "token": f"token of account=robot,account_uid={uid},namespace=default,secret=kept",
    }
    assert meta.annotations(api.get("secrets", "kept") or {}) == {NAME: "robot", UID: uid}


async def test_a_token_that_is_there_stays_and_the_authority_is_renewed(api: FakeAPI, running: Running) -> None:
    api.add("serviceaccounts", {"metadata": {"name": "robot"}})
    data = {key: base64.b64encode(value).decode() for key, value in (("token", b"old"), ("ca.crt", b"old"))}
    api.add("secrets", secret(data=data))
    await start(running)
    assert (held(api)["token"], held(api)["ca.crt"]) == ("old", "CA")


async def test_a_token_that_is_taken_out_is_made_anew(api: FakeAPI, running: Running) -> None:
    api.add("serviceaccounts", {"metadata": {"name": "robot"}})
    api.add("secrets", secret())
    await start(running)
    api.change("secrets", "kept", data={"token": None})
    await running.settle()
    assert held(api)["token"].startswith("token of")


async def test_the_secret_goes_with_its_account(api: FakeAPI, running: Running) -> None:
    api.add("serviceaccounts", {"metadata": {"name": "robot"}})
    api.add("secrets", secret())
    api.add("secrets", {"metadata": {"name": "other"}, "type": "Opaque"})
    await start(running)
    api.remove("serviceaccounts", "robot")
    await running.settle()
    assert names(api.all("secrets")) == ["other"]


async def test_the_secret_of_an_account_that_was_made_anew_goes(api: FakeAPI, running: Running) -> None:
    api.add("serviceaccounts", {"metadata": {"name": "robot"}})
    api.add("secrets", secret(annotations={UID: "of the old one"}))
    await start(running)
    assert api.all("secrets") == []


async def test_an_account_names_no_secret_that_is_gone(api: FakeAPI, running: Running) -> None:
    api.add("serviceaccounts", {"metadata": {"name": "robot"}, "secrets": [{"name": "kept"}, {"name": "other"}]})
    api.add("secrets", secret())
    await start(running)
    api.remove("secrets", "kept")
    await running.settle()
    assert (api.get("serviceaccounts", "robot") or {})["secrets"] == [{"name": "other"}]
