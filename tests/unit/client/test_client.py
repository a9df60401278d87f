from collections.abc import Mapping

import orjson
import pytest

from kubecore.api.errors import StatusError
from kubecore.client.client import Client
from kubecore.clock import VirtualClock
from tests.support.fake_api import FakeAPI


@pytest.fixture
def api() -> FakeAPI:
    return FakeAPI(VirtualClock())


@pytest.fixture
def client(api: FakeAPI) -> Client:
    return api.client()


def test_paths_of_the_core_group_named_groups_and_subresources(client: Client) -> None:
    assert client.path("pods", "default") == "/api/v1/namespaces/default/pods"
    assert client.path("pods") == "/api/v1/pods"
    assert client.path("nodes", "ignored", "n1", "status") == "/api/v1/nodes/n1/status"
    assert client.path("deployments.apps", "a", "b") == "/apis/apps/v1/namespaces/a/deployments/b"


async def test_what_is_created_can_be_read_updated_patched_and_deleted(client: Client) -> None:
    made = await client.create("configmaps", {"metadata": {"name": "a"}, "data": {"x": "1"}}, "default")
    made["data"] = {"x": "2"}
    await client.update("configmaps", made)
    await client.patch("configmaps", "a", {"data": {"y": "3"}}, "default", patch_type="merge")
    assert (await client.get("configmaps", "a", "default"))["data"] == {"x": "2", "y": "3"}
    await client.delete("configmaps", "a", "default", uid=made["metadata"]["uid"])
    with pytest.raises(StatusError) as refused:
        await client.get("configmaps", "a", "default")
    assert (refused.value.code, refused.value.reason) == (404, "NotFound")


async def test_an_update_of_an_old_version_is_a_conflict(client: Client) -> None:
    made = await client.create("configmaps", {"metadata": {"name": "a"}}, "default")
    await client.update("configmaps", {**made, "data": {"x": "1"}})
    with pytest.raises(StatusError) as refused:
        await client.update("configmaps", {**made, "data": {"x": "2"}})
    assert refused.value.reason == "Conflict"


class Renewing(FakeAPI):
    """Renews the lease of `renews`, and leaves others to a PUT."""

    renews = ""

    async def renew_lease(
        self, namespace: str, name: str, version: str, renew_time: str, *, query: Mapping[str, str]
    ) -> bytes | None:
        if name != self.renews:
            return None
        return orjson.dumps({"metadata": {"resourceVersion": version}, "spec": {"renewTime": renew_time}})


async def test_a_lease_is_renewed_by_whoever_can_and_else_by_an_update() -> None:
    api = Renewing(VirtualClock(), namespaces=("kube-system",))
    client, time = api.client(), "2026-01-02T03:04:05.000000Z"
    spec = {"holderIdentity": "me", "renewTime": "2026-01-02T03:04:00.000000Z"}
    leases = "leases.coordination.k8s.io"
    one, other = [
        await client.create(leases, {"metadata": {"name": name}, "spec": spec}, "kube-system") for name in "ab"
    ]
    api.renews = "a"
    told = [await client.renew_lease(lease, time) for lease in (one, other)]
    assert [write.name for write in api.writes(f"update {leases}")] == ["b"]
    version = one["metadata"]["resourceVersion"]
    assert told[0] == {"metadata": {"resourceVersion": version}, "spec": {"renewTime": time}}
    assert told[1]["spec"] == {**spec, "renewTime": time} and one["spec"] == spec


async def test_many_are_posted_and_each_has_its_own_outcome(api: FakeAPI, client: Client) -> None:
    objects = [{"metadata": {"name": name}} for name in ("a", "b", "a")]
    made, other, refused = await client.post_all("configmaps", objects, "default")
    assert isinstance(made, bytes) and isinstance(other, bytes)
    assert isinstance(refused, StatusError) and refused.reason == "AlreadyExists"
    assert [one["metadata"]["name"] for one in api.all("configmaps")] == ["a", "b"]


async def test_a_server_that_is_away_is_the_outcome_of_each_post(api: FakeAPI, client: Client) -> None:
    api.react("create configmaps", ConnectionError("down"))
    lost, made = await client.post_all("configmaps", [{"metadata": {"name": name}} for name in ("a", "b")], "default")
    assert isinstance(lost, ConnectionError) and isinstance(made, bytes)


async def test_whatever_keeps_one_post_from_being_sent_is_its_outcome(api: FakeAPI, client: Client) -> None:
    api.react("create configmaps", RuntimeError("no credentials"))
    lost, made = await client.post_all("configmaps", [{"metadata": {"name": name}} for name in ("a", "b")], "default")
    assert isinstance(lost, RuntimeError) and isinstance(made, bytes)


async def test_a_status_is_written_without_the_spec(api: FakeAPI, client: Client) -> None:
    made = await client.create("replicasets.apps", {"metadata": {"name": "a"}, "spec": {"replicas": 2}}, "default")
    written = await client.update("replicasets.apps", {**made, "status": {"replicas": 1}}, subresource="status")
    (sent,) = api.writes("update replicasets.apps/status")
    assert sent.body.keys() == {"apiVersion", "kind", "metadata", "status"}
    assert (written["spec"], written["status"]) == ({"replicas": 2}, {"replicas": 1})


async def test_a_list_pages_through_and_names_kinds(api: FakeAPI, client: Client) -> None:
    for index in range(5):
        api.add("configmaps", {"metadata": {"name": f"c{index}"}})
    found = await client.list("configmaps", "default", limit=2)
    assert [item["metadata"]["name"] for item in found.items] == ["c0", "c1", "c2", "c3", "c4"]
    assert found.items[0]["kind"] == "ConfigMap" and found.items[0]["apiVersion"] == "v1"


async def test_a_delete_with_the_uid_of_another_is_a_conflict(api: FakeAPI, client: Client) -> None:
    api.add("configmaps", {"metadata": {"name": "a"}})
    with pytest.raises(StatusError) as refused:
        await client.delete("configmaps", "a", "default", uid="other")
    assert refused.value.reason == "Conflict"
