from typing import Any

import pytest

from kubecore.client.client import Object
from kubecore.clock import VirtualClock
from kubecore.controllers.workloads.deployment import DeploymentController
from kubecore.controllers.workloads.replicaset import ReplicaSetController
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running, events, make_ready, names, template

DEPLOYMENTS, SETS = "deployments.apps", "replicasets.apps"
REVISION = "deployment.kubernetes.io/revision"


def deployment(replicas: int, **spec: Any) -> Object:
    base = {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": "web"}},
        "template": template(),
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "progressDeadlineSeconds": 600,
        "revisionHistoryLimit": 10,
    }
    return {"metadata": {"name": "web"}, "spec": {**base, **spec}}


async def start(running: Running) -> None:
    await running.start(DeploymentController(running.context), ReplicaSetController(running.context))


async def make_all_ready(api: FakeAPI, running: Running) -> None:
    for name in names(api.all("pods")):
        make_ready(api, name)
    await running.settle()


async def roll_out(api: FakeAPI, running: Running) -> None:
    for _ in range(20):
        await make_all_ready(api, running)


def sizes(api: FakeAPI) -> list[int]:
    """Sizes of the ReplicaSets, oldest revision first."""
    found = sorted(api.all(SETS), key=lambda one: int(one["metadata"]["annotations"][REVISION]))
    return [one["spec"]["replicas"] for one in found]


def current(api: FakeAPI) -> Object:
    found = api.get(DEPLOYMENTS, "web")
    assert found is not None
    return found


def condition(api: FakeAPI, type: str) -> Object:
    found: list[Object] = current(api)["status"]["conditions"]
    return next(one for one in found if one["type"] == type)


def change_image(api: FakeAPI, image: str) -> None:
    api.change(DEPLOYMENTS, "web", spec={"template": template(image)})


async def test_a_new_deployment_gets_a_replica_set_and_pods(api: FakeAPI, running: Running) -> None:
    made = api.add(DEPLOYMENTS, deployment(3))
    await start(running)
    (one,) = api.all(SETS)
    suffix = one["metadata"]["labels"]["pod-template-hash"]
    assert one["metadata"]["name"] == f"web-{suffix}"
    assert one["spec"]["selector"]["matchLabels"] == {"app": "web", "pod-template-hash": suffix}
    assert one["spec"]["template"]["metadata"]["labels"] == {"app": "web", "pod-template-hash": suffix}
    assert one["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]
    assert one["metadata"]["annotations"] == {
        REVISION: "1",
        "deployment.kubernetes.io/desired-replicas": "3",
        "deployment.kubernetes.io/max-replicas": "4",
    }
    assert current(api)["metadata"]["annotations"][REVISION] == "1"
    assert len(api.all("pods")) == 3
    assert events(api, "ScalingReplicaSet") == [f"Scaled up replica set web-{suffix} from 0 to 3"]


async def test_its_conditions_follow_the_roll_out(api: FakeAPI, running: Running) -> None:
    api.add(DEPLOYMENTS, deployment(2))
    await start(running)
    (name,) = names(api.all(SETS))
    assert condition(api, "Available")["reason"] == "MinimumReplicasUnavailable"
    assert condition(api, "Progressing")["reason"] == "ReplicaSetUpdated"
    await make_all_ready(api, running)
    assert condition(api, "Available")["message"] == "Deployment has minimum availability."
    progressing = condition(api, "Progressing")
    assert (progressing["status"], progressing["reason"]) == ("True", "NewReplicaSetAvailable")
    assert progressing["message"] == f'ReplicaSet "{name}" has successfully progressed.'
    status = current(api)["status"]
    assert (status["replicas"], status["updatedReplicas"], status["readyReplicas"]) == (2, 2, 2)
    assert (status["availableReplicas"], status["observedGeneration"]) == (2, 1)
    assert "unavailableReplicas" not in status


async def test_that_a_replica_set_was_made_is_written_with_the_report_of_the_same_sync(
    api: FakeAPI, running: Running
) -> None:
    api.add(DEPLOYMENTS, deployment(2))
    await running.start(DeploymentController(running.context))
    (name,) = names(api.all(SETS))
    written = api.writes("update deployments.apps/status")[0].body
    assert written["metadata"]["annotations"][REVISION] == "1"
    assert written["status"]["unavailableReplicas"] == 2
    progressing, available = written["status"]["conditions"]
    assert (progressing["status"], progressing["reason"]) == ("True", "NewReplicaSetCreated")
    assert progressing["message"] == f'Created new replica set "{name}"'
    assert available["reason"] == "MinimumReplicasUnavailable"


async def test_a_rolling_update_never_has_too_few_or_too_many(api: FakeAPI, running: Running) -> None:
    api.add(DEPLOYMENTS, deployment(3))
    await start(running)
    await roll_out(api, running)
    change_image(api, "app:2")
    await running.settle()
    assert sizes(api) == [3, 1]
    for expected in ([2, 2], [1, 3], [0, 3]):
        await make_all_ready(api, running)
        await make_all_ready(api, running) if sizes(api) != expected else None
        assert sum(sizes(api)) <= 4
    await roll_out(api, running)
    assert sizes(api) == [0, 3]
    assert {pod["spec"]["containers"][0]["image"] for pod in api.all("pods")} == {"app:2"}
    told = events(api, "ScalingReplicaSet")
    assert [message.split(" ", 2)[1] for message in told] == ["up", "up", "down", "up", "down", "up", "down"]


async def test_unavailable_pods_of_the_old_template_go_first(api: FakeAPI, running: Running) -> None:
    api.add(DEPLOYMENTS, deployment(4, strategy={"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}))
    await start(running)
    for name in names(api.all("pods"))[:3]:
        make_ready(api, name)
    await running.settle()
    change_image(api, "app:2")
    await running.settle()
    assert sizes(api) == [3, 1]
    assert sum(1 for pod in api.all("pods") if pod["spec"]["containers"][0]["image"] == "app:1") == 3


async def test_that_unavailable_pods_went_is_told_before_the_others_go(api: FakeAPI, running: Running) -> None:
    api.add(DEPLOYMENTS, deployment(4, strategy={"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 2}}))
    await start(running)
    for name in names(api.all("pods"))[:3]:
        make_ready(api, name)
    await running.settle()
    change_image(api, "app:2")
    await running.settle()
    told = [one.partition(" from ")[2] for one in events(api, "ScalingReplicaSet") if one.startswith("Scaled down")]
    assert told == ["4 to 3", "3 to 2"]


async def test_recreate_makes_new_pods_when_all_old_ones_are_gone(api: FakeAPI, running: Running) -> None:
    api.add(DEPLOYMENTS, deployment(2, strategy={"type": "Recreate"}))
    await start(running)
    for name in names(api.all("pods")):
        api.change("pods", name, spec={"nodeName": "n1"})
    await roll_out(api, running)
    old = names(api.all("pods"))
    change_image(api, "app:2")
    await running.settle()
    assert sizes(api) == [0]
    assert names(api.all("pods")) == old, "they have thirty seconds to end"
    for name in old:
        api.remove("pods", name)
    await running.settle()
    assert sizes(api) == [0, 2]
    assert {pod["spec"]["containers"][0]["image"] for pod in api.all("pods")} == {"app:2"}


async def test_recreate_leaves_a_replica_set_of_the_right_size_alone(api: FakeAPI, running: Running) -> None:
    api.add(DEPLOYMENTS, deployment(2))
    await start(running)
    await roll_out(api, running)
    before = api.all(SETS)[0]["metadata"]["annotations"]
    api.change(DEPLOYMENTS, "web", spec={"strategy": {"type": "Recreate"}})
    await running.settle()
    assert api.all(SETS)[0]["metadata"]["annotations"] == before


async def test_going_back_to_an_old_template_gives_its_replica_set_a_new_revision(
    api: FakeAPI, running: Running
) -> None:
    api.add(DEPLOYMENTS, deployment(1))
    await start(running)
    await roll_out(api, running)
    (first,) = names(api.all(SETS))
    change_image(api, "app:2")
    await running.settle()
    await roll_out(api, running)
    change_image(api, "app:1")
    await running.settle()
    await roll_out(api, running)
    assert len(api.all(SETS)) == 2
    back = api.get(SETS, first)
    assert back is not None
    assert back["metadata"]["annotations"][REVISION] == "3"
    assert back["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"] == "1"
    assert current(api)["metadata"]["annotations"][REVISION] == "3"
    assert sizes(api) == [0, 1]


ROLLBACK = "deprecated.deployment.rollback.to"


def ask_to_roll_back(api: FakeAPI, revision: str) -> None:
    api.change(
        DEPLOYMENTS, "web", metadata={"annotations": {**current(api)["metadata"]["annotations"], ROLLBACK: revision}}
    )


def image(api: FakeAPI) -> str:
    found: str = current(api)["spec"]["template"]["spec"]["containers"][0]["image"]
    return found


async def test_it_goes_back_to_the_revision_that_an_annotation_asks_for(api: FakeAPI, running: Running) -> None:
    first = deployment(1)
    first["metadata"]["annotations"] = {"change-cause": "create"}
    api.add(DEPLOYMENTS, first)
    await start(running)
    before = image(api)
    await roll_out(api, running)
    api.change(DEPLOYMENTS, "web", metadata={"annotations": {"change-cause": "edit", REVISION: "1"}})
    change_image(api, "web:2")
    await roll_out(api, running)
    ask_to_roll_back(api, "1")
    await roll_out(api, running)
    assert image(api) == before
    assert current(api)["metadata"]["annotations"] == {"change-cause": "create", REVISION: "3"}
    assert events(api, "DeploymentRollback") == ['Rolled back deployment "web" to revision 1']
    assert sizes(api) == [0, 1]


async def test_revision_0_is_the_one_before(api: FakeAPI, running: Running) -> None:
    api.add(DEPLOYMENTS, deployment(1))
    await start(running)
    for number in (2, 3):
        change_image(api, f"web:{number}")
        await roll_out(api, running)
    ask_to_roll_back(api, "0")
    await roll_out(api, running)
    assert image(api) == "web:2"
    assert events(api, "DeploymentRollback") == ['Rolled back deployment "web" to revision 2']


@pytest.mark.parametrize(
    ("wanted", "reason", "message"),
    [
        ("0", "DeploymentRollbackRevisionNotFound", "Unable to find last revision."),
        ("7", "DeploymentRollbackRevisionNotFound", "Unable to find the revision to rollback to."),
        (
            "1",
            "DeploymentRollbackTemplateUnchanged",
            'The rollback revision contains the same template as current deployment "web"',
        ),
    ],
)
async def test_where_there_is_nothing_to_go_back_to_the_wish_is_dropped_and_that_is_told(
    api: FakeAPI, running: Running, wanted: str, reason: str, message: str
) -> None:
    api.add(DEPLOYMENTS, deployment(1))
    await start(running)
    before = image(api)
    ask_to_roll_back(api, wanted)
    await roll_out(api, running)
    assert ROLLBACK not in current(api)["metadata"]["annotations"]
    assert (image(api), sizes(api)) == (before, [1])
    assert events(api, reason) == [message]


async def test_what_is_no_revision_asks_for_nothing(api: FakeAPI, running: Running) -> None:
    api.add(DEPLOYMENTS, deployment(1))
    await start(running)
    ask_to_roll_back(api, "first")
    await roll_out(api, running)
    assert current(api)["metadata"]["annotations"][ROLLBACK] == "first"


async def test_annotations_of_the_deployment_go_to_its_replica_set(api: FakeAPI, running: Running) -> None:
    made = deployment(1)
    made["metadata"]["annotations"] = {
        "kubernetes.io/change-cause": "first",
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
    }
    api.add(DEPLOYMENTS, made)
    await start(running)
    annotations = api.all(SETS)[0]["metadata"]["annotations"]
    assert annotations["kubernetes.io/change-cause"] == "first"
    assert "kubectl.kubernetes.io/last-applied-configuration" not in annotations


async def test_scaling_during_a_roll_out_is_proportional(api: FakeAPI, running: Running) -> None:
    spec = {"rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}
    api.add(DEPLOYMENTS, deployment(10, strategy=spec))
    await start(running)
    await make_all_ready(api, running)
    change_image(api, "app:2")
    await running.settle()
    assert sizes(api) == [8, 5], "the example of the documentation"
    api.change(DEPLOYMENTS, "web", spec={"replicas": 15})
    await running.settle()
    assert sizes(api) == [11, 7]


async def test_scaled_down_during_a_roll_out_it_keeps_what_has_to_be_available(api: FakeAPI, running: Running) -> None:
    """Its old ReplicaSet still tells of the pods it had: upstream waits until it has counted those that stay."""
    api.add(DEPLOYMENTS, deployment(15, strategy={"rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}))
    await start(running)
    await make_all_ready(api, running)
    change_image(api, "app:2")
    await running.settle()
    api.change(DEPLOYMENTS, "web", spec={"replicas": 5})
    await running.settle()
    assert sizes(api) == [3, 5]


async def test_a_paused_deployment_scales_but_does_not_roll(api: FakeAPI, running: Running) -> None:
    api.add(DEPLOYMENTS, deployment(2))
    await start(running)
    await roll_out(api, running)
    api.change(DEPLOYMENTS, "web", spec={"paused": True})
    change_image(api, "app:2")
    await running.settle()
    assert sizes(api) == [2]
    assert condition(api, "Progressing")["reason"] == "DeploymentPaused"
    api.change(DEPLOYMENTS, "web", spec={"replicas": 4})
    await running.settle()
    assert sizes(api) == [4]
    api.change(DEPLOYMENTS, "web", spec={"paused": False})
    await running.settle()
    assert len(sizes(api)) == 2


async def test_old_replica_sets_beyond_the_history_limit_are_deleted(api: FakeAPI, running: Running) -> None:
    api.add(DEPLOYMENTS, deployment(1, revisionHistoryLimit=1))
    await start(running)
    await roll_out(api, running)
    for image in ("app:2", "app:3", "app:4"):
        change_image(api, image)
        await running.settle()
        await roll_out(api, running)
    revisions = sorted(one["metadata"]["annotations"][REVISION] for one in api.all(SETS))
    assert revisions == ["3", "4"]


async def test_a_roll_out_without_progress_is_told_to_have_failed(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    api.add(DEPLOYMENTS, deployment(1, progressDeadlineSeconds=60))
    await start(running)
    await clock.advance(58)
    assert condition(api, "Progressing")["status"] == "True"
    await clock.advance(5)
    progressing = condition(api, "Progressing")
    assert (progressing["status"], progressing["reason"]) == ("False", "ProgressDeadlineExceeded")
    assert progressing["message"].endswith("has timed out progressing.")
    await roll_out(api, running)
    assert condition(api, "Progressing")["reason"] == "NewReplicaSetAvailable"


async def test_a_name_that_is_taken_leads_to_another_hash(api: FakeAPI, running: Running) -> None:
    api.add(DEPLOYMENTS, deployment(1))
    await start(running)
    (name,) = names(api.all(SETS))
    api.remove(DEPLOYMENTS, "web")
    api.remove(SETS, name)
    reference = {"apiVersion": "v1", "kind": "Other", "name": "x", "uid": "x", "controller": True}
    other = {"metadata": {"name": name, "ownerReferences": [reference]}}
    other["spec"] = {"replicas": 0, "selector": {"matchLabels": {"app": "other"}}, "template": template("other")}
    api.add(SETS, other)
    await running.settle()
    api.add(DEPLOYMENTS, deployment(1))
    await running.settle()
    assert current(api)["status"]["collisionCount"] == 1
    assert len(names(api.all(SETS))) == 2


async def test_the_name_of_a_replica_set_fits_however_long_that_of_its_deployment_is(
    api: FakeAPI, running: Running
) -> None:
    api.add(DEPLOYMENTS, {**deployment(1), "metadata": {"name": "d" * 253}})
    await start(running)
    (name,) = names(api.all(SETS))
    suffix = api.all(SETS)[0]["metadata"]["labels"]["pod-template-hash"]
    assert name == f"{'d' * (252 - len(suffix))}-{suffix}" and len(name) == 253


async def test_that_pods_cannot_be_made_is_told_with_the_time_of_its_replica_set(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    api.add(DEPLOYMENTS, deployment(1))
    await running.start(DeploymentController(running.context))
    since = clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "lastTransitionTime": since}
    await clock.advance(30)
    api.change(SETS, names(api.all(SETS))[0], status={"conditions": [failure]})
    await clock.advance(1)
    told = condition(api, "ReplicaFailure")
    assert told["reason"] == "FailedCreate" and told["lastTransitionTime"] == told["lastUpdateTime"] == since


async def test_it_rests_when_there_is_nothing_to_do(api: FakeAPI, running: Running, clock: VirtualClock) -> None:
    api.add(DEPLOYMENTS, deployment(2))
    await start(running)
    await roll_out(api, running)
    before = len(api.requests)
    await clock.advance(3600)
    assert len(api.requests) == before
