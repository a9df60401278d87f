"""ImagePolicyWebhook: a webhook says which images pods may use, and its word counts for a while."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from kubecore.api.configuration_file import InvalidConfiguration
from kubecore.apiserver.admission.image_policy import load
from kubecore.apiserver.admission.options import AdmissionOptions
from tests.support.review_webhook import Decide, ReviewWebhook, reviewing

from .conftest import Api, pod
from .serving import served

pytestmark = pytest.mark.asyncio

JSON = dict[str, Any]
PODS = "v1/pods"


@asynccontextmanager
async def asking(folder: Path, decide: Decide, **more: Any) -> AsyncIterator[tuple[ReviewWebhook, Api]]:
    async with reviewing(folder, decide) as (webhook, file):
        configuration = {"imagePolicy": {"kubeConfigFile": str(file), "retryBackoff": 1, **more}}
        admission = AdmissionOptions(
            enable=("ImagePolicyWebhook",), configuration={"ImagePolicyWebhook": orjson.dumps(configuration).decode()}
        )
        async with served(folder, admission=admission) as server:
            api = Api(server.transport(username="admin", groups=["system:masters"]))
            await api.create("v1/serviceaccounts", {"metadata": {"name": "default"}})
            yield webhook, api


async def test_images_are_asked_about_once(tmp_path: Path) -> None:
    async with asking(tmp_path, lambda spec: {"allowed": True}) as (webhook, api):
        for name in ("p", "q"):
            assert (await api.create(PODS, pod(name)))[0] == 201
        assert webhook.specs == [{"containers": [{"image": "none"}], "namespace": "default"}]


async def test_a_pod_with_an_image_that_is_not_allowed_is_refused(tmp_path: Path) -> None:
    async with asking(tmp_path, lambda spec: {"allowed": False, "reason": "it is old"}) as (_, api):
        status, answer = await api.create(PODS, pod("p"))
        told = "image policy webhook backend denied one or more images: it is old"
        assert (status, answer["message"]) == (403, f'pods "p" is forbidden: {told}')


async def test_ephemeral_containers_are_asked_about_too(tmp_path: Path) -> None:
    """CVE-2023-2727: they are not among the images of the pod, and came by another way."""

    def decide(spec: JSON) -> JSON:
        return {"allowed": all(one["image"] != "bad" for one in spec["containers"])}

    async with asking(tmp_path, decide) as (webhook, api):
        assert (await api.create(PODS, pod("p")))[0] == 201
        answers = {}
        for image in ("bad", "good"):
            added = {"spec": {"ephemeralContainers": [{"name": "debug", "image": image}]}}
            way = ("strategic-merge-patch", "ephemeralcontainers")
            answers[image] = (await api.patch(PODS, "p", added, *way))[0]
        assert answers == {"bad": 403, "good": 200}
        _, whole = await api.get(PODS, "p")
        whole["spec"]["ephemeralContainers"].append({"name": "another", "image": "bad"})
        assert (await api.update(PODS, whole, "ephemeralcontainers"))[0] == 403
    asked = [[one["image"] for one in spec["containers"]] for spec in webhook.specs]
    assert asked == [["none"], ["bad"], ["good"], ["good", "bad"]]


async def test_init_containers_are_asked_about_too(tmp_path: Path) -> None:
    async with asking(tmp_path, lambda spec: {"allowed": len(spec["containers"]) == 1}) as (webhook, api):
        status, _ = await api.create(PODS, pod("p", initContainers=[{"name": "first", "image": "bad"}]))
        assert status == 403
        assert webhook.specs[0]["containers"] == [{"image": "none"}, {"image": "bad"}]


@pytest.mark.parametrize(("allows", "expected"), [(True, 201), (False, 403)])
async def test_what_holds_without_an_answer_is_configured(tmp_path: Path, allows: bool, expected: int) -> None:
    async with asking(tmp_path, lambda spec: [], defaultAllow=allows) as (_, api):
        status, answer = await api.create(PODS, pod("p"))
        assert status == expected
        if allows:
            assert answer["metadata"]["annotations"] == {"alpha.image-policy.k8s.io/failed-open": "true"}


async def test_times_have_bounds(tmp_path: Path) -> None:
    async with reviewing(tmp_path, lambda spec: {}) as (_, file):
        with pytest.raises(InvalidConfiguration, match="valid value is between 1s and 30m0s, got 2h0m0s"):
            load(orjson.dumps({"imagePolicy": {"kubeConfigFile": str(file), "allowTTL": 7200}}).decode())
    with pytest.raises(InvalidConfiguration, match="no config specified"):
        load("")
