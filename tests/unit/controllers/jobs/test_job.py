"""Jobs from their first pod to their end."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.api import errors, meta
from kubecore.client.client import Object
from kubecore.clock import VirtualClock
from kubecore.controllers.jobs.job import JobController
from kubecore.controllers.jobs.orphans import JobOrphanController
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running, events, make_ready, names

JOBS = "jobs.batch"
TRACKING = "batch.kubernetes.io/job-tracking"
INDEX = "batch.kubernetes.io/job-completion-index"


def job(**spec: Any) -> Object:
    template = {
        "metadata": {"labels": {"job": "work"}},
        "spec": {"containers": [{"name": "c", "image": "app:1"}], "restartPolicy": "Never"},
    }
    spec = {
        "parallelism": 1,
        "backoffLimit": 6,
        "completionMode": "NonIndexed",
        "selector": {"matchLabels": {"job": "work"}},
        "template": template,
        **spec,
    }
    if spec.get("completions", 0) is None:
        del spec["completions"]
    else:
        spec.setdefault("completions", 1)
    return {"metadata": {"name": "work"}, "spec": spec}


def indexed(completions: int, **spec: Any) -> Object:
    return job(**{"completionMode": "Indexed", "completions": completions, "parallelism": completions, **spec})


async def start(running: Running) -> None:
    await running.start(JobController(running.context), JobOrphanController(running.context))


def finish(api: FakeAPI, name: str, phase: str = "Succeeded", *, code: int = 0, **status: Any) -> None:
    """What the kubelet reports of a pod that ended."""
    state = {"terminated": {"exitCode": code, "finishedAt": meta.format_time(api.clock.now())}}
    conditions = [{"type": "Ready", "status": "False"}, *status.pop("conditions", ())]
    told = {"phase": phase, "containerStatuses": [{"name": "c", "state": state}], "conditions": conditions, **status}
    api.change("pods", name, status=told)


def active(api: FakeAPI) -> list[str]:
    return names([p for p in api.all("pods") if p["status"]["phase"] in ("Pending", "Running")])


def status(api: FakeAPI) -> dict[str, Any]:
    found = api.get(JOBS, "work")
    assert found is not None
    told: dict[str, Any] = found["status"]
    return told


def conditions(api: FakeAPI) -> dict[str, tuple[str, str, str]]:
    return {
        one["type"]: (one["status"], one.get("reason", ""), one.get("message", ""))
        for one in status(api).get("conditions") or ()
    }


def of_index(api: FakeAPI, index: int) -> list[str]:
    return names(
        [
            p
            for p in api.all("pods")
            if p["metadata"]["annotations"][INDEX] == str(index) and p["status"]["phase"] == "Pending"
        ]
    )


class TestCompletion:
    async def test_a_pod_that_succeeds_completes_its_job(self, api: FakeAPI, running: Running) -> None:
        owner = api.add(JOBS, job())
        await start(running)
        (name,) = active(api)
        pod = api.get("pods", name)
        assert pod is not None
        assert pod["metadata"]["finalizers"] == [TRACKING]
        assert pod["metadata"]["ownerReferences"][0]["uid"] == owner["metadata"]["uid"]
        assert status(api)["active"] == 1
        finish(api, name)
        await running.settle()
        told = status(api)
        assert told["succeeded"] == 1
        assert "active" not in told and "failed" not in told
        assert (told["ready"], told["terminating"], told["uncountedTerminatedPods"]) == (0, 0, {})
        assert told["startTime"] <= told["completionTime"]
        reached = ("True", "CompletionsReached", "Reached expected number of succeeded pods")
        assert conditions(api) == {"SuccessCriteriaMet": reached, "Complete": reached}
        assert events(api, "Completed") == ["Job completed"]
        assert events(api, "SuccessfulCreate") == [f"Created pod: {name}"]

    async def test_counted_pods_are_kept_without_the_finalizer(self, api: FakeAPI, running: Running) -> None:
        api.add(JOBS, job())
        await start(running)
        (name,) = active(api)
        finish(api, name)
        await running.settle()
        assert not api.get("pods", name)["metadata"].get("finalizers")  # type: ignore[index]

    async def test_no_more_pods_run_than_completions_are_left(self, api: FakeAPI, running: Running) -> None:
        api.add(JOBS, job(completions=3, parallelism=2))
        await start(running)
        first, _ = active(api)
        finish(api, first)
        await running.settle()
        assert len(active(api)) == 2
        for name in active(api):
            finish(api, name)
        await running.settle()
        assert len(api.all("pods")) == 3
        assert "Complete" in conditions(api)

    async def test_without_completions_one_success_ends_it_when_the_others_have_ended(
        self, api: FakeAPI, running: Running
    ) -> None:
        api.add(JOBS, job(completions=None, parallelism=2))
        await start(running)
        first, second = active(api)
        finish(api, first)
        await running.settle()
        assert "Complete" not in conditions(api)
        assert active(api) == [second]
        finish(api, second)
        await running.settle()
        assert status(api)["succeeded"] == 2
        assert "Complete" in conditions(api)

    async def test_ready_pods_are_counted(self, api: FakeAPI, running: Running) -> None:
        api.add(JOBS, job(completions=2, parallelism=2))
        await start(running)
        make_ready(api, active(api)[0])
        await running.settle()
        assert (status(api)["active"], status(api)["ready"]) == (2, 1)

    async def test_lower_parallelism_removes_pods_uncounted(self, api: FakeAPI, running: Running) -> None:
        api.add(JOBS, job(completions=5, parallelism=4))
        await start(running)
        api.change(JOBS, "work", spec={"parallelism": 1})
        await running.settle()
        assert len(api.all("pods")) == 1
        assert "failed" not in status(api)

    async def test_a_stale_cache_makes_no_pod_twice(self, api: FakeAPI, running: Running) -> None:
        api.add(JOBS, job(completions=2, parallelism=2))
        await start(running)
        for label in range(5):
            api.change(JOBS, "work", metadata={"labels": {"touched": str(label)}})
        await running.settle()
        assert len(api.writes("create pods")) == 2

    async def test_a_job_managed_by_another_controller_is_left_alone(self, api: FakeAPI, running: Running) -> None:
        api.add(JOBS, job(managedBy="example.com/queue"))
        await start(running)
        assert not api.all("pods")


class TestCounting:
    async def test_a_restart_between_status_and_finalizer_counts_once(self, api: FakeAPI, running: Running) -> None:
        owner = api.add(JOBS, job(completions=2))
        reference = meta.controller_reference(owner, "batch/v1", "Job")
        pod = {
            "metadata": {"name": "a", "labels": {"job": "work"}, "finalizers": [TRACKING]},
            "spec": owner["spec"]["template"]["spec"],
            "status": {"phase": "Succeeded"},
        }
        pod["metadata"]["ownerReferences"] = [reference]
        made = api.add("pods", pod)
        api.change(JOBS, "work", status={"uncountedTerminatedPods": {"succeeded": [made["metadata"]["uid"]]}})
        await start(running)
        assert status(api)["succeeded"] == 1
        assert status(api)["uncountedTerminatedPods"] == {}

    async def test_a_status_that_cannot_be_written_keeps_the_finalizer(self, api: FakeAPI, running: Running) -> None:
        api.add(JOBS, job())
        await start(running)
        (name,) = active(api)
        api.react("update jobs.batch/status", errors.internal_error("no"), times=2)
        finish(api, name)
        await running.clock.advance(0.11)
        assert api.get("pods", name)["metadata"]["finalizers"] == [TRACKING]  # type: ignore[index]
        await running.clock.advance(3.5)
        assert status(api)["succeeded"] == 1

    async def test_a_finalizer_that_cannot_be_removed_counts_later(self, api: FakeAPI, running: Running) -> None:
        api.add(JOBS, job())
        await start(running)
        (name,) = active(api)
        api.react("patch pods", errors.internal_error("no"), times=3)
        finish(api, name)
        await running.clock.advance(7.5)
        assert status(api)["succeeded"] == 1
        assert "Complete" in conditions(api)

    async def test_orphans_that_match_are_adopted_with_the_finalizer(self, api: FakeAPI, running: Running) -> None:
        api.add("pods", {"metadata": {"name": "o", "labels": {"job": "work"}}, "spec": {}, "status": {}})
        owner = api.add(JOBS, job())
        await start(running)
        adopted = api.get("pods", "o")
        assert adopted is not None and len(api.all("pods")) == 1
        assert adopted["metadata"]["ownerReferences"][0]["uid"] == owner["metadata"]["uid"]
        assert adopted["metadata"]["finalizers"] == [TRACKING]

    async def test_pods_of_a_deleted_job_are_let_go_when_they_are_deleted(self, api: FakeAPI, running: Running) -> None:
        api.add(JOBS, job())
        await start(running)
        (name,) = active(api)
        api.remove(JOBS, "work")
        await running.settle()
        await running.context.client.delete("pods", name, "default")
        await running.settle()
        assert not api.all("pods")


class TestFailure:
    async def test_failed_pods_are_replaced_after_a_back_off_that_doubles(
        self, api: FakeAPI, running: Running, clock: VirtualClock
    ) -> None:
        api.add(JOBS, job())
        await start(running)
        for failures, wait in enumerate((10, 20, 40), 1):
            finish(api, active(api)[0], "Failed", code=1)
            await running.settle()
            assert status(api)["failed"] == failures
            await clock.advance(wait - 2)
            assert not active(api)
            await clock.advance(2)
            assert len(active(api)) == 1

    async def test_the_back_off_limit_ends_the_job(self, api: FakeAPI, running: Running, clock: VirtualClock) -> None:
        api.add(JOBS, job(backoffLimit=1))
        await start(running)
        for _ in range(2):
            finish(api, active(api)[0], "Failed", code=1)
            await clock.advance(30)
        message = "Job has reached the specified backoff limit"
        failed = ("True", "BackoffLimitExceeded", message)
        assert conditions(api) == {"FailureTarget": failed, "Failed": failed}
        assert status(api)["failed"] == 2
        assert "completionTime" not in status(api)
        assert events(api, "BackoffLimitExceeded") == [message]

    async def test_pods_that_still_run_fail_with_the_job_and_are_waited_for(
        self, api: FakeAPI, running: Running
    ) -> None:
        api.add(JOBS, job(backoffLimit=0, completions=2, parallelism=2))
        await start(running)
        first, second = active(api)
        api.change("pods", second, spec={"nodeName": "n1"})
        make_ready(api, second)
        finish(api, first, "Failed", code=1)
        await running.settle()
        assert "Failed" not in conditions(api) and "FailureTarget" in conditions(api)
        assert status(api)["terminating"] == 1
        api.remove("pods", second)
        await running.settle()
        assert "Failed" in conditions(api)
        assert (status(api)["failed"], status(api)["terminating"]) == (2, 0)
        assert events(api, "SuccessfulDelete") == [f"Deleted pod: {second}"]

    async def test_restarts_of_containers_count_against_the_limit(self, api: FakeAPI, running: Running) -> None:
        one = job(backoffLimit=2)
        one["spec"]["template"]["spec"]["restartPolicy"] = "OnFailure"
        api.add(JOBS, one)
        await start(running)
        (name,) = active(api)
        api.change("pods", name, status={"phase": "Running", "containerStatuses": [{"name": "c", "restartCount": 2}]})
        await running.settle()
        assert conditions(api)["Failed"][1] == "BackoffLimitExceeded"
        assert not api.all("pods")

    async def test_the_active_deadline_ends_the_job(self, api: FakeAPI, running: Running, clock: VirtualClock) -> None:
        api.add(JOBS, job(activeDeadlineSeconds=100))
        await start(running)
        await clock.advance(99)
        assert "Failed" not in conditions(api)
        await clock.advance(2)
        message = "Job was active longer than specified deadline"
        assert conditions(api)["Failed"] == ("True", "DeadlineExceeded", message)
        assert not api.all("pods")

    async def test_a_deleted_pod_counts_as_failed_and_is_replaced(
        self, api: FakeAPI, running: Running, clock: VirtualClock
    ) -> None:
        api.add(JOBS, job())
        await start(running)
        (name,) = active(api)
        await running.context.client.delete("pods", name, "default")
        await clock.advance(11)
        assert status(api)["failed"] == 1
        assert len(active(api)) == 1 and active(api) != [name]

    async def test_only_ended_pods_are_replaced_where_the_job_wants_that(
        self, api: FakeAPI, running: Running, clock: VirtualClock
    ) -> None:
        api.add(JOBS, job(podReplacementPolicy="Failed"))
        await start(running)
        (name,) = active(api)
        api.change("pods", name, spec={"nodeName": "n1"})
        await running.context.client.delete("pods", name, "default")
        await clock.advance(60)
        assert len(api.all("pods")) == 1
        assert status(api)["terminating"] == 1
        finish(api, name, "Failed", code=137)
        await clock.advance(11)
        assert len(active(api)) == 1
        assert status(api)["failed"] == 1


class TestFailurePolicy:
    def policy(self, action: str, *values: int) -> Object:
        return {"rules": [{"action": action, "onExitCodes": {"operator": "In", "values": [*values]}}]}

    async def test_a_rule_fails_the_job_at_once(self, api: FakeAPI, running: Running) -> None:
        api.add(JOBS, job(podFailurePolicy=self.policy("FailJob", 42)))
        await start(running)
        (name,) = active(api)
        finish(api, name, "Failed", code=42)
        await running.settle()
        message = f"Container c for pod default/{name} failed with exit code 42 matching FailJob rule at index 0"
        assert conditions(api)["Failed"] == ("True", "PodFailurePolicy", message)
        assert events(api, "PodFailurePolicy") == [message]

    async def test_an_ignored_failure_does_not_count(self, api: FakeAPI, running: Running, clock: VirtualClock) -> None:
        pattern = [{"type": "DisruptionTarget", "status": "True"}]
        policy = {"rules": [{"action": "Ignore", "onPodConditions": pattern}]}
        api.add(JOBS, job(backoffLimit=0, podFailurePolicy=policy))
        await start(running)
        finish(api, active(api)[0], "Failed", code=137, conditions=pattern)
        await clock.advance(15)
        assert "failed" not in status(api)
        assert len(active(api)) == 1
        finish(api, active(api)[0], "Failed", code=1)
        await running.settle()
        assert conditions(api)["Failed"][1] == "BackoffLimitExceeded"

    async def test_fail_index_ends_one_index_only(self, api: FakeAPI, running: Running) -> None:
        policy = self.policy("FailIndex", 42)
        api.add(JOBS, indexed(2, backoffLimitPerIndex=3, backoffLimit=2**31 - 1, podFailurePolicy=policy))
        await start(running)
        finish(api, of_index(api, 0)[0], "Failed", code=42)
        await running.settle()
        assert status(api)["failedIndexes"] == "0"
        finish(api, of_index(api, 1)[0])
        await running.settle()
        assert conditions(api)["Failed"] == ("True", "FailedIndexes", "Job has failed indexes")
        assert status(api)["completedIndexes"] == "1"


class TestIndexes:
    async def test_each_pod_knows_its_index(self, api: FakeAPI, running: Running) -> None:
        api.add(JOBS, indexed(2))
        await start(running)
        found = {}
        for pod in api.all("pods"):
            metadata = pod["metadata"]
            assert metadata["labels"][INDEX] == metadata["annotations"][INDEX]
            assert metadata["name"].startswith(f"work-{metadata['labels'][INDEX]}-")
            (variable,) = pod["spec"]["containers"][0]["env"]
            assert variable["name"] == "JOB_COMPLETION_INDEX"
            assert variable["valueFrom"]["fieldRef"]["fieldPath"] == f"metadata.labels['{INDEX}']"
            found[metadata["labels"][INDEX]] = pod["spec"]["hostname"]
        assert found == {"0": "work-0", "1": "work-1"}

    async def test_completed_indexes_are_compressed_and_counted_once(self, api: FakeAPI, running: Running) -> None:
        api.add(JOBS, indexed(6))
        await start(running)
        for index in (0, 2, 3, 4):
            finish(api, of_index(api, index)[0])
        await running.settle()
        assert status(api)["completedIndexes"] == "0,2-4"
        assert status(api)["succeeded"] == 4
        assert len(active(api)) == 2
        for index in (1, 5):
            finish(api, of_index(api, index)[0])
        await running.settle()
        assert status(api)["completedIndexes"] == "0-5"
        assert "Complete" in conditions(api)
        assert len(api.all("pods")) == 6

    async def test_a_second_pod_of_an_index_and_one_out_of_range_are_removed(
        self, api: FakeAPI, running: Running
    ) -> None:
        owner = api.add(JOBS, indexed(2, parallelism=3))
        await start(running)
        for name, index in (("twin", "1"), ("beyond", "7")):
            metadata = {
                "name": name,
                "labels": {"job": "work"},
                "annotations": {INDEX: index},
                "ownerReferences": [meta.controller_reference(owner, "batch/v1", "Job")],
            }
            api.add("pods", {"metadata": metadata, "spec": {}, "status": {"phase": "Pending"}})
        await running.settle()
        assert sorted(p["metadata"]["annotations"][INDEX] for p in api.all("pods")) == ["0", "1"]

    async def test_each_index_has_its_own_back_off_limit(
        self, api: FakeAPI, running: Running, clock: VirtualClock
    ) -> None:
        api.add(JOBS, indexed(2, backoffLimitPerIndex=1, backoffLimit=2**31 - 1))
        await start(running)
        first = of_index(api, 0)[0]
        finish(api, first, "Failed", code=1)
        await clock.advance(5)
        # it is kept until its replacement has taken over the count
        assert api.get("pods", first)["metadata"]["finalizers"] == [TRACKING]  # type: ignore[index]
        await clock.advance(6)
        assert not api.get("pods", first)["metadata"].get("finalizers")  # type: ignore[index]
        (second,) = of_index(api, 0)
        annotations = api.get("pods", second)["metadata"]["annotations"]  # type: ignore[index]
        assert annotations["batch.kubernetes.io/job-index-failure-count"] == "1"
        finish(api, second, "Failed", code=1)
        await clock.advance(60)
        assert status(api)["failedIndexes"] == "0"
        assert not of_index(api, 0)
        finish(api, of_index(api, 1)[0])
        await running.settle()
        assert conditions(api)["Failed"][1] == "FailedIndexes"
        assert (status(api)["succeeded"], status(api)["failed"]) == (1, 2)

    async def test_too_many_failed_indexes_end_the_job(self, api: FakeAPI, running: Running) -> None:
        api.add(JOBS, indexed(4, backoffLimitPerIndex=0, backoffLimit=2**31 - 1, maxFailedIndexes=1))
        await start(running)
        for index in (0, 1):
            finish(api, of_index(api, index)[0], "Failed", code=1)
        await running.settle()
        assert conditions(api)["Failed"][1] == "MaxFailedIndexesExceeded"
        assert not active(api)

    @pytest.mark.parametrize(
        "rule", [{"succeededIndexes": "0"}, {"succeededCount": 1}, {"succeededIndexes": "0-2", "succeededCount": 1}]
    )
    async def test_a_success_policy_ends_it_early(self, api: FakeAPI, running: Running, rule: Object) -> None:
        api.add(JOBS, indexed(3, successPolicy={"rules": [rule]}))
        await start(running)
        finish(api, of_index(api, 0)[0])
        await running.settle()
        assert conditions(api)["Complete"] == ("True", "SuccessPolicy", "Matched rules at index 0")
        assert not active(api)
        assert (status(api)["succeeded"], status(api).get("failed")) == (1, None)


class TestSuspension:
    async def test_a_suspended_job_starts_when_it_is_resumed(
        self, api: FakeAPI, running: Running, clock: VirtualClock
    ) -> None:
        api.add(JOBS, job(suspend=True))
        await start(running)
        assert not api.all("pods")
        assert conditions(api) == {"Suspended": ("True", "JobSuspended", "Job suspended")}
        assert "startTime" not in status(api)
        api.change(JOBS, "work", spec={"suspend": False})
        await running.settle()
        assert len(active(api)) == 1
        assert conditions(api) == {"Suspended": ("False", "JobResumed", "Job resumed")}
        assert events(api, "Suspended") == ["Job suspended"]
        assert events(api, "Resumed") == ["Job resumed"]

    async def test_suspending_removes_pods_uncounted_and_restarts_the_deadline(
        self, api: FakeAPI, running: Running, clock: VirtualClock
    ) -> None:
        api.add(JOBS, job(activeDeadlineSeconds=100))
        await start(running)
        await clock.advance(60)
        api.change(JOBS, "work", spec={"suspend": True})
        await clock.advance(60)
        assert not api.all("pods")
        assert "failed" not in status(api) and "Failed" not in conditions(api)
        api.change(JOBS, "work", spec={"suspend": False})
        await clock.advance(90)
        assert "Failed" not in conditions(api) and len(active(api)) == 1
        await clock.advance(11)
        assert conditions(api)["Failed"][1] == "DeadlineExceeded"
