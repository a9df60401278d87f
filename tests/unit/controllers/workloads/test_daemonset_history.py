from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running, names, template
from tests.unit.controllers.workloads.test_daemonset import (
    SETS,
    add_nodes,
    change_image,
    daemon_set,
    placed,
    start,
    status,
)

REVISIONS, HASH = "controllerrevisions.apps", "controller-revision-hash"


def revisions(api: FakeAPI) -> dict[int, str]:
    """Images of the kept templates by revision number."""
    return {
        one["revision"]: one["data"]["spec"]["template"]["spec"]["containers"][0]["image"] for one in api.all(REVISIONS)
    }


async def test_a_template_is_kept_as_a_revision_whose_hash_its_pods_carry(api: FakeAPI, running: Running) -> None:
    add_nodes(api, "n1")
    one = daemon_set()
    one["metadata"]["annotations"] = {"kubernetes.io/change-cause": "because"}
    owner = api.add(SETS, one)
    await start(running)
    (revision,) = api.all(REVISIONS)
    suffix = revision["metadata"]["labels"][HASH]
    assert revision["metadata"]["name"] == f"agent-{suffix}"
    assert revision["metadata"]["labels"] == {"app": "web", HASH: suffix}
    assert revision["metadata"]["annotations"] == {"kubernetes.io/change-cause": "because"}
    assert revision["metadata"]["ownerReferences"][0]["uid"] == owner["metadata"]["uid"]
    assert revision["data"] == {"spec": {"template": {**template(), "$patch": "replace"}}}
    assert revision["revision"] == 1
    assert api.all("pods")[0]["metadata"]["labels"] == {"app": "web", HASH: suffix}


async def test_going_back_to_a_template_makes_its_revision_the_newest(api: FakeAPI, running: Running) -> None:
    add_nodes(api, "n1")
    api.add(SETS, daemon_set())
    await start(running)
    change_image(api, "app:2")
    await running.settle()
    assert revisions(api) == {1: "app:1", 2: "app:2"}
    change_image(api, "app:1")
    await running.settle()
    assert revisions(api) == {2: "app:2", 3: "app:1"}
    assert placed(api, "app:1") == ["n1"]


async def test_revisions_beyond_the_limit_go_oldest_first_but_none_that_a_pod_has(
    api: FakeAPI, running: Running
) -> None:
    add_nodes(api, "n1")
    api.add(SETS, daemon_set(revisionHistoryLimit=2, updateStrategy={"type": "OnDelete"}))
    await start(running)
    for number in range(2, 6):
        change_image(api, f"app:{number}")
        await running.settle()
    assert revisions(api) == {1: "app:1", 4: "app:4", 5: "app:5"}


async def test_an_orphaned_revision_is_adopted(api: FakeAPI, running: Running) -> None:
    add_nodes(api, "n1")
    api.add(SETS, daemon_set())
    await start(running)
    (revision,) = api.all(REVISIONS)
    name = revision["metadata"]["name"]
    api.change(REVISIONS, name, metadata={"ownerReferences": None})
    await running.settle()
    (revision,) = api.all(REVISIONS)
    assert revision["metadata"]["ownerReferences"][0]["name"] == "agent"


async def test_a_revision_whose_name_is_taken_gets_another_and_the_collision_is_counted(
    api: FakeAPI, running: Running
) -> None:
    add_nodes(api, "n1")
    api.add(SETS, daemon_set())
    await start(running)
    (revision,) = api.all(REVISIONS)
    api.remove(SETS, "agent")
    api.remove("pods", names(api.all("pods"))[0])
    api.change(REVISIONS, revision["metadata"]["name"], data={"spec": {"template": {"other": True}}})
    await running.settle()
    api.add(SETS, daemon_set())
    await running.settle()
    assert status(api)["collisionCount"] == 1
    assert len(api.all(REVISIONS)) == 2
    assert placed(api) == ["n1"]


async def test_pods_of_duplicate_revisions_get_the_hash_of_the_newest(api: FakeAPI, running: Running) -> None:
    add_nodes(api, "n1")
    api.add(SETS, daemon_set())
    await start(running)
    (revision,) = api.all(REVISIONS)
    twin = {**revision, "revision": 2, "metadata": {**revision["metadata"], "name": "agent-twin", "uid": "twin"}}
    twin["metadata"]["labels"] = {"app": "web", HASH: "twin"}
    api.add(REVISIONS, twin)
    await running.settle()
    assert names(api.all(REVISIONS)) == ["agent-twin"]
    (pod,) = api.all("pods")
    assert pod["metadata"]["labels"][HASH] == "twin"
