"""What controllers tell of their work beside their queues', under upstream's names."""

from __future__ import annotations

from kubecore.api import errors
from kubecore.clock import VirtualClock
from kubecore.controllers.base import Controller
from kubecore.controllers.identities.root_ca import RootCAPublisher
from kubecore.controllers.jobs.cronjob import CronJobController
from kubecore.controllers.jobs.job import JobController
from kubecore.controllers.jobs.ttl_after_finished import TTLAfterFinishedController
from kubecore.controllers.manager import ControllerManager
from kubecore.controllers.nodes.node_lifecycle import NodeLifecycleController
from kubecore.controllers.nodes.pod_gc import PodGCController
from kubecore.controllers.nodes.taint_eviction import TaintEvictionController
from kubecore.controllers.volumes.binder import VolumeBinder
from kubecore.controllers.volumes.ephemeral_volume import EphemeralVolumeController
from kubecore.controllers.workloads.replicaset import ReplicaSetController
from kubecore.controllers.workloads.replication import ReplicationManager
from kubecore.controllers.workloads.statefulset import StatefulSetController
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running, make_ready
from tests.unit.controllers.jobs.test_cronjob import CRON_JOBS, HOUR, cron_job
from tests.unit.controllers.jobs.test_job import JOBS, active, finish, indexed, job
from tests.unit.controllers.jobs.test_ttl_after_finished import job as finished_job
from tests.unit.controllers.nodes.test_nodes import add_node, add_pod, heartbeats
from tests.unit.controllers.volumes.objects import CLAIMS, CLASSES, VOLUMES, Folders, claim, storage_class, volume
from tests.unit.controllers.volumes.test_ephemeral_volume import pod as pod_of_ephemeral_claim
from tests.unit.controllers.workloads.test_replicaset import replica_set
from tests.unit.controllers.workloads.test_statefulset import rolling, stateful_set

SYNCS = "job_controller_job_syncs_total"
FINISHED = "job_controller_jobs_finished_total"
PODS = "job_controller_job_pods_finished_total"


def told(controller: Controller) -> list[str]:
    return [line for metric in controller.metrics for line in metric.lines()]


def counts(controller: Controller, name: str) -> dict[str, int]:
    """Of each set of labels."""
    found = [line.removeprefix(name).rpartition(" ") for line in told(controller) if line.startswith(f"{name}{{")]
    return {labels.strip("{}"): int(value) for labels, _, value in found}


async def test_a_job_that_ends_is_told_with_its_pods_and_why(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    controller = JobController(running.context)
    api.add(JOBS, indexed(2))
    await running.start(controller)
    assert counts(controller, FINISHED) == {}
    for name in active(api):
        finish(api, name)
    await clock.advance(1)
    assert counts(controller, PODS) == {'completion_mode="Indexed",result="succeeded"': 2}
    reached = 'completion_mode="Indexed",reason="CompletionsReached",result="succeeded"'
    assert counts(controller, FINISHED) == {reached: 1}


async def test_a_job_that_fails_is_told_with_the_limit_it_has_reached(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    controller = JobController(running.context)
    api.add(JOBS, job(backoffLimit=0))
    await running.start(controller)
    finish(api, active(api)[0], "Failed", code=1)
    await clock.advance(1)
    exceeded = 'completion_mode="NonIndexed",reason="BackoffLimitExceeded",result="failed"'
    assert counts(controller, FINISHED) == {exceeded: 1}
    assert counts(controller, PODS) == {'completion_mode="NonIndexed",result="failed"': 1}


async def test_syncs_of_jobs_are_told_by_what_they_did_and_whether_they_failed(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    controller = JobController(running.context)
    api.add(JOBS, job(parallelism=2, completions=2))
    api.react("create pods", errors.internal_error("no"))
    await running.start(controller)
    await clock.advance(1)
    found = counts(controller, SYNCS)
    assert found['action="pods_created",completion_mode="NonIndexed",result="error"'] == 1
    api.change(JOBS, "work", spec={"parallelism": 1})
    await clock.advance(1)
    found = counts(controller, SYNCS)
    assert found['action="pods_deleted",completion_mode="NonIndexed",result="success"'] == 1
    assert sum(found.values()) == sum(counts(controller, "job_controller_job_sync_duration_seconds_count").values())


async def test_how_late_jobs_of_a_schedule_are_made_is_told(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    controller = CronJobController(running.context)
    api.add(CRON_JOBS, cron_job("0 3 * * *"))
    await running.start(controller)
    assert told(controller) == []
    await clock.advance(3 * HOUR + 1)
    name = "cronjob_controller_job_creation_skew_duration_seconds"
    assert f"{name}_count 1" in told(controller)
    assert f'{name}_bucket{{le="1"}} 1' in told(controller)


async def test_a_node_that_pods_must_leave_is_an_eviction_of_its_zone(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    lifecycle, eviction = (
        NodeLifecycleController(running.context, grace_seconds=50),
        TaintEvictionController(running.context),
    )
    add_node(api)
    api.change("nodes", "n1", metadata={"labels": {"topology.kubernetes.io/zone": "a"}})
    add_node(api, "other")
    add_pod(api, "a")
    await running.start(lifecycle, eviction)
    assert counts(lifecycle, "node_collector_evictions_total") == {}
    await heartbeats(api, clock, 60, of=["other"])
    assert counts(lifecycle, "node_collector_evictions_total") == {'zone=":\0:a"': 1}
    assert "taint_eviction_controller_pod_deletions_total 1" in told(eviction)


async def test_how_many_nodes_of_a_zone_are_well_is_told(api: FakeAPI, running: Running, clock: VirtualClock) -> None:
    controller = NodeLifecycleController(running.context, grace_seconds=50)
    for name in ("n1", "n2", "n3", "n4"):
        add_node(api, name)
        api.change("nodes", name, metadata={"labels": {"topology.kubernetes.io/zone": "a"}})
    await running.start(controller)
    await heartbeats(api, clock, 60, of=["n1", "n2", "n3"])
    zone = 'zone=":\0:a"'
    for name, value in (("zone_size", 4), ("zone_health", 75), ("unhealthy_nodes_in_zone", 1)):
        assert counts(controller, f"node_collector_{name}") == {zone: value}


async def test_pods_removed_by_force_are_told_by_namespace_and_reason(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    controller = PodGCController(running.context, threshold=1)
    add_node(api)
    add_pod(api, "old", phase="Succeeded")
    add_pod(api, "new", phase="Succeeded")
    add_pod(api, "homeless", node="gone")
    await running.start(controller)
    await clock.advance(60)
    deleted = "pod_gc_collector_force_delete_pods_total"
    told_of = {f'namespace="default",reason="{reason}"': 1 for reason in ("orphaned", "terminated")}
    assert counts(controller, deleted) == told_of
    assert counts(controller, "pod_gc_collector_force_delete_pod_errors_total") == {}


async def test_pods_that_cannot_be_removed_are_told_as_errors(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    controller = PodGCController(running.context, threshold=0)
    add_pod(api, "homeless", node="gone")
    api.react("delete pods", errors.internal_error("no"))
    await running.start(controller)
    await clock.advance(60)
    failed = counts(controller, "pod_gc_collector_force_delete_pod_errors_total")
    assert failed == {'namespace="default",reason="orphaned"': 1}


async def test_how_long_a_finished_job_outlived_its_time_is_told(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    controller = TTLAfterFinishedController(running.context)
    api.add(JOBS, finished_job("done", 60, condition="Complete", at="2026-01-01T00:00:00Z"), "default")
    await clock.advance(90)
    await running.start(controller)
    name = "ttl_after_finished_controller_job_deletion_duration_seconds"
    assert f"{name}_sum 30" in told(controller) and f"{name}_count 1" in told(controller)


async def test_a_taint_that_took_its_time_to_take_a_pod_is_told(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    controller = TaintEvictionController(running.context)
    taint = {"key": "k", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}
    add_node(api, taints=[taint])
    tolerations = [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}]
    add_pod(api, "a", tolerations=tolerations)
    await clock.advance(90)
    await running.start(controller)
    assert "taint_eviction_controller_pod_deletion_duration_seconds_sum 30" in told(controller)


async def test_pods_of_a_job_are_told_by_what_they_replace_and_what_its_failure_policy_makes_of_them(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    controller = JobController(running.context)
    codes = {"operator": "In", "values": [42]}
    api.add(JOBS, job(podFailurePolicy={"rules": [{"action": "Count", "onExitCodes": codes}]}))
    await running.start(controller)
    finish(api, active(api)[0], "Failed", code=42)
    await clock.advance(60)
    finish(api, active(api)[0])
    await clock.advance(1)
    made = counts(controller, "job_controller_job_pods_creation_total")
    assert made == {
        'reason="new",status="succeeded"': 1,
        'reason="recreate_terminating_or_failed",status="succeeded"': 1,
    }
    handled = counts(controller, "job_controller_pod_failures_handled_by_failure_policy_total")
    assert handled == {'action="Count"': 1}
    held = counts(controller, "job_controller_terminated_pods_tracking_finalizer_total")
    assert held == {'event="add"': 2, 'event="delete"': 2}


async def test_indexes_that_end_are_told_by_whose_limit_they_have(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    controller = JobController(running.context)
    api.add(JOBS, indexed(2, backoffLimitPerIndex=0, backoffLimit=2**31 - 1))
    await running.start(controller)
    first, second = active(api)
    finish(api, first)
    finish(api, second, "Failed", code=1)
    await clock.advance(1)
    ended = counts(controller, "job_controller_job_finished_indexes_total")
    assert ended == {f'backoffLimit="perIndex",status="{status}"': 1 for status in ("succeeded", "failed")}


async def test_jobs_that_others_manage_are_told_by_whose_they_are(api: FakeAPI, running: Running) -> None:
    controller = JobController(running.context)
    api.add(JOBS, job(managedBy="example.org/queue"))
    await running.start(controller)
    found = counts(controller, "job_controller_jobs_by_external_controller_total")
    assert found == {'controller_name="example.org/queue"': 1}


async def test_how_many_pods_of_a_stateful_set_are_and_may_be_unavailable_is_told_while_it_is_there(
    api: FakeAPI, running: Running
) -> None:
    controller = StatefulSetController(running.context)
    one = stateful_set(3, podManagementPolicy="Parallel", updateStrategy=rolling(maxUnavailable=2))
    api.add("statefulsets.apps", one)
    await running.start(controller)
    make_ready(api, "db-0")
    await running.settle()
    labels = 'pod_management_policy="Parallel",statefulset_name="db",statefulset_namespace="default"'
    most, unavailable = (
        f"statefulset_controller_statefulset_{name}" for name in ("max_unavailable", "unavailable_replicas")
    )
    assert counts(controller, most) == {labels: 2}
    assert counts(controller, unavailable) == {labels: 2}
    api.remove("statefulsets.apps", "db")
    await running.settle()
    assert told(controller) == []


async def test_how_old_the_pods_are_that_a_smaller_replica_set_loses_is_told(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    controller = ReplicaSetController(running.context)
    api.add("replicasets.apps", replica_set(1))
    await running.start(controller)
    await clock.advance(99.5)
    api.change("replicasets.apps", "web", spec={"replicas": 2})
    await clock.advance(100)
    for one in api.all("pods"):
        make_ready(api, one["metadata"]["name"])
    api.change("replicasets.apps", "web", spec={"replicas": 1})
    await running.settle()
    name = "replicaset_controller_sorting_deletion_age_ratio"
    assert f"{name}_count 1" in told(controller)
    # the same bucket of ages, so either of them
    assert f'{name}_bucket{{le="2"}} 1' in told(controller)
    assert ReplicationManager(running.context).metrics == ()


async def test_volumes_and_claims_are_told_by_class_and_whether_they_are_bound(api: FakeAPI, running: Running) -> None:
    controller = VolumeBinder(running.context, Folders())
    api.add(CLASSES, storage_class("other", default=True))
    for one in (
        volume("a", storageClassName="fast"),
        volume("b"),
        volume("c", csi={"driver": "d", "volumeHandle": "h"}),
    ):
        api.add(VOLUMES, one)
    api.add(CLAIMS, claim(storageClassName="fast"))
    api.add(CLAIMS, claim("late"))
    await running.start(controller)
    assert counts(controller, "pv_collector_bound_pv_count") == {'storage_class="fast"': 1}
    assert counts(controller, "pv_collector_unbound_pv_count") == {'storage_class=""': 2}
    assert counts(controller, "pv_collector_total_pv_count") == {
        'plugin_name="kubernetes.io/host-path",volume_mode="Filesystem"': 2,
        'plugin_name="kubernetes.io/csi:d",volume_mode="Filesystem"': 1,
    }
    fast = 'namespace="default",storage_class="fast",volume_attributes_class=""'
    assert counts(controller, "pv_collector_bound_pvc_count") == {fast: 1}
    assert counts(controller, "pv_collector_unbound_pvc_count") == {fast.replace("fast", "other"): 1}


async def test_claims_that_get_the_default_class_late_are_told(api: FakeAPI, running: Running) -> None:
    controller = VolumeBinder(running.context, Folders())
    api.add(CLAIMS, claim())
    await running.start(controller)
    assert "retroactive_storageclass_total 0" in told(controller)
    api.add(CLASSES, storage_class(default=True))
    await running.settle()
    assert "retroactive_storageclass_total 1" in told(controller)
    assert "retroactive_storageclass_errors_total 0" in told(controller)


async def test_claims_made_for_ephemeral_volumes_are_told(api: FakeAPI, running: Running) -> None:
    controller = EphemeralVolumeController(running.context)
    api.react("create persistentvolumeclaims", errors.internal_error("no"))
    api.add("pods", pod_of_ephemeral_claim())
    await running.start(controller)
    assert "ephemeral_volume_controller_create_total 2" in told(controller)
    assert "ephemeral_volume_controller_create_failures_total 1" in told(controller)


async def test_the_publishing_of_the_authority_is_told_by_namespace_synced(api: FakeAPI, running: Running) -> None:
    controller = RootCAPublisher(running.context, b"the CA")
    api.add("namespaces", {"metadata": {"name": "a"}}, "")
    await running.start(controller)
    synced = {'code="200"': len(api.all("namespaces"))}
    assert counts(controller, "root_ca_cert_publisher_sync_total") == synced
    assert counts(controller, "root_ca_cert_publisher_sync_duration_seconds_count") == synced


async def test_queues_are_told_by_the_names_of_upstreams(api: FakeAPI) -> None:
    manager = ControllerManager(api.client("manager"), api.clock)
    lines = [line for metric in manager.metrics for line in metric.lines() if line.startswith("workqueue_depth{")]
    told_of = {line.split('"')[1] for line in lines}
    assert told_of >= {
        "ClusterRoleAggregator",
        "bootstrap_signer_queue",
        "claims",
        "cronjob",
        "daemonset",
        "deployment",
        "disruption",
        "endpoint",
        "endpoint_slice",
        "endpoint_slice_mirroring",
        "ephemeral_volume",
        "garbage_collector_attempt_to_delete",
        "horizontalpodautoscaler",
        "ipaddresses",
        "job",
        "job_orphan_pod",
        "namespace",
        "node_lifecycle_controller",
        "noexec_taint_pod",
        "orphaned_pods_nodes",
        "pvcprotection",
        "pvprotection",
        "replicaset",
        "replicationmanager",
        "resourcequota_primary",
        "serviceaccount",
        "statefulset",
        "token_cleaner",
        "ttl_jobs_to_delete",
        "ttlcontroller",
        "vacprotection",
        "validatingadmissionpolicy-status",
        "volume_expand",
    }
