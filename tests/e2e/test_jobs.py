"""Jobs and CronJobs with kubectl, on real processes."""

from __future__ import annotations

import pytest

from tests.support.kubectl import Kubectl

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

INDEXED = """
apiVersion: batch/v1
kind: Job
metadata: {name: indexed}
spec:
  completions: 3
  parallelism: 3
  completionMode: Indexed
  template:
    spec:
      restartPolicy: Never
      containers:
      - {name: main, image: none, command: [sh, -c, 'echo "index $JOB_COMPLETION_INDEX"']}
"""

FAILING = """
apiVersion: batch/v1
kind: Job
metadata: {name: failing}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers:
      - {name: main, image: none, command: [sh, -c, 'exit 3']}
"""

# On a slow machine more of its jobs are over, before they are looked at, than are kept by default.
OFTEN = """
apiVersion: batch/v1
kind: CronJob
metadata: {name: often}
spec:
  schedule: '@every 1s'
  successfulJobsHistoryLimit: 1000
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: OnFailure
          containers: [{name: main, image: none, command: [echo, told by cron]}]
"""


def wait(kubectl: Kubectl, namespace: str, condition: str, job: str) -> None:
    kubectl("-n", namespace, "wait", f"--for=condition={condition}", f"job/{job}", "--timeout=180s")


def test_a_job_completes_and_its_logs_are_kept(kubectl: Kubectl, namespace: str) -> None:
    kubectl("-n", namespace, "create", "job", "hello", "--image=none", "--", "echo", "hello from a job")
    wait(kubectl, namespace, "complete", "hello")
    assert kubectl("-n", namespace, "logs", "job/hello") == "hello from a job\n"
    _, row = kubectl("-n", namespace, "get", "job", "hello").splitlines()
    assert row.split()[:3] == ["hello", "Complete", "1/1"]
    told = kubectl.event(namespace, "Completed")
    assert (told["name"], told["message"]) == ("hello", "Job completed")
    kubectl("-n", namespace, "delete", "job", "hello", "--cascade=foreground", "--timeout=180s")
    assert kubectl("-n", namespace, "get", "pods", "-o", "name") == ""


def test_each_index_runs_once_and_knows_itself(kubectl: Kubectl, namespace: str) -> None:
    kubectl("-n", namespace, "apply", "-f", "-", stdin=INDEXED)
    wait(kubectl, namespace, "complete", "indexed")
    told = kubectl("-n", namespace, "logs", "-l", "batch.kubernetes.io/job-name=indexed")
    assert sorted(told.splitlines()) == ["index 0", "index 1", "index 2"]
    assert kubectl("-n", namespace, "get", "job", "indexed", "-o", "jsonpath={.status.completedIndexes}") == "0-2"


def test_a_job_that_fails_says_why(kubectl: Kubectl, namespace: str) -> None:
    kubectl("-n", namespace, "apply", "-f", "-", stdin=FAILING)
    wait(kubectl, namespace, "failed", "failing")
    told = kubectl.event(namespace, "BackoffLimitExceeded")
    assert (told["name"], told["message"]) == ("failing", "Job has reached the specified backoff limit")


def test_a_cron_job_starts_by_hand_and_by_itself(kubectl: Kubectl, namespace: str) -> None:
    command = ["--", "echo", "told by cron"]
    kubectl("-n", namespace, "create", "cronjob", "yearly", "--image=none", "--schedule=@yearly", *command)
    kubectl("-n", namespace, "create", "job", "by-hand", "--from=cronjob/yearly")
    wait(kubectl, namespace, "complete", "by-hand")
    assert kubectl("-n", namespace, "logs", "job/by-hand") == "told by cron\n"

    kubectl("-n", namespace, "apply", "-f", "-", stdin=OFTEN)
    started = "--for=jsonpath={.status.lastScheduleTime}"
    kubectl("-n", namespace, "wait", started, "cronjob/often", "--timeout=180s")
    kubectl("-n", namespace, "patch", "cronjob", "often", "-p", '{"spec":{"suspend":true}}')
    started_jobs = [word.partition("/")[2] for word in _jobs(kubectl, namespace) if "/often-" in word]
    assert started_jobs
    for name in started_jobs:
        wait(kubectl, namespace, "complete", name)
    row = kubectl("-n", namespace, "get", "cronjob", "often", "--no-headers").split()
    assert row[:2] == ["often", "@every"] and "True" in row
    kubectl("-n", namespace, "delete", "cronjob", "often", "--cascade=foreground", "--timeout=180s")
    assert not [word for word in _jobs(kubectl, namespace) if "/often-" in word]


def _jobs(kubectl: Kubectl, namespace: str) -> list[str]:
    return kubectl("-n", namespace, "get", "jobs", "-o", "name").split()
