"""One pod on a simulated node: nothing runs, and its status tells what would. Pure: no I/O, no clock.

It makes the decisions of a real kubelet (`kubelet/pods/lifecycle.py`, `kubelet/pods/status.py`); only what a container
does comes from a script in place of a process. Everything but the restart back-off is in the pod's status, so that a
simulated pod goes on where it was when the process is started again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from kubecore.api import meta
from kubecore.kubelet.pods.lifecycle import hold_back, is_finished, next_actions
from kubecore.kubelet.pods.records import ContainerRecord, Termination, records_of
from kubecore.kubelet.pods.status import PodFacts, build_status
from kubecore.kubelet.simulated.script import Script, ScriptError

Object = dict[str, Any]

RUNTIME = "simulated"
_STOPPED, _KILLED = 143, 137
"""How containers end that are asked to, and that do not do as they are asked."""
_FINAL = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class WarningEvent:
    """An event to be told."""

    reason: str
    message: str
    field_path: str = ""


@dataclass(slots=True)
class Step:
    """What is to be done for a pod now. `status`: what its status is to say, None where it may stay as it is. `gone`:
    nothing of it is left on the node, so that it is to be removed from the API. `wait`: look again then, at the latest.
    """

    status: Object | None = None
    gone: bool = False
    wait: timedelta | None = None
    warnings: list[WarningEvent] = field(default_factory=list)

    def by(self, when: datetime, now: datetime) -> None:
        """Look again at `when`."""
        left = when - now
        if self.wait is None or left < self.wait:
            self.wait = left


class SimulatedPod:
    """Addresses: one of each family. `addresses` are the pod's own, `host` its node's."""

    __slots__ = ("_addresses", "_host", "_records", "_start_time", "_warned")

    def __init__(self, pod: Object, *, host: tuple[str, ...], addresses: tuple[str, ...], now: datetime) -> None:
        status = pod.get("status") or {}
        self._host = host
        self._addresses = host if pod["spec"].get("hostNetwork") else addresses
        self._records = records_of(pod, alive=lambda container_id: True)
        started = status.get("startTime")
        self._start_time = meta.parse_time(started) if started else now
        self._warned = ""

    def step(self, pod: Object, now: datetime) -> Step:
        """`pod` is its newest state in the API."""
        step = Step()
        if meta.is_deleting(pod):
            self._end(pod, now, step)
        elif (pod.get("status") or {}).get("phase") not in _FINAL:
            self._live(pod, now, step)
        return step

    # ---- living

    def _live(self, pod: Object, now: datetime, step: Step) -> None:
        failure = self._deadline(pod, now, step)
        finished = failure is not None
        if failure is None:
            try:
                finished = self._follow(pod, Script(pod), now, step)
            except ScriptError as error:
                self._refuse(str(error), step)
                finished = is_finished(pod, self._records)
        else:
            self._stop_all(self._records.values(), _KILLED, now)
        self._report(pod, now, step, sandbox=not finished, failure=failure)

    def _deadline(self, pod: Object, now: datetime, step: Step) -> tuple[str, str] | None:
        seconds = pod["spec"].get("activeDeadlineSeconds")
        if seconds is None:
            return None
        ends = self._start_time + timedelta(seconds=seconds)
        if now < ends:
            step.by(ends, now)
            return None
        return "DeadlineExceeded", "Pod was active on the node longer than the specified deadline"

    def _refuse(self, message: str, step: Step) -> None:
        """Nothing more happens until somebody mends the annotation."""
        for record in self._records.values():
            if record.state == "waiting":
                record.wait("CreateContainerConfigError", message)
        if self._warned != message:
            self._warned = message
            step.warnings.append(WarningEvent("InvalidSimulation", message))

    def _follow(self, pod: Object, script: Script, now: datetime, step: Step) -> bool:
        """Whether no container will run any more."""
        records = self._records.values()
        arrived = self._start_time + script.start_delay
        if now < arrived and not any(record.attempted for record in records):
            step.by(arrived, now)
            return False
        self._age_all(script, now)
        while True:
            actions = next_actions(pod, self._records, now)
            if actions.finished:
                self._stop_all(records, 0, now)
                return True
            for name, remaining in actions.back_off.items():
                if message := hold_back(pod, self._records[name]):
                    step.warnings.append(WarningEvent("BackOff", message, self._records[name].field_path))
                step.by(now + remaining, now)
            started = [name for name in actions.start if self._start(pod, self._records[name], script, now)]
            self._age_all(script, now)
            if not started or all(record.state == "running" for record in records):
                break
        for record in records:
            if record.state == "running":
                for when in self._due(record, script, now):
                    step.by(when, now)
        return False

    def _start(self, pod: Object, record: ContainerRecord, script: Script, now: datetime) -> bool:
        obstacle = script.waiting(record)
        if obstacle is not None:
            record.wait(*obstacle)
            return False
        latest = record.latest
        if latest is not None and latest.finished_at is not None:
            record.back_off.restarted(latest.finished_at, now)
        record.restart_count = record.next_attempt
        record.run(f"{meta.uid(pod)}-{record.name}-{record.restart_count}", now)
        record.started = True
        return True

    def _age_all(self, script: Script, now: datetime) -> None:
        for record in self._records.values():
            if record.state == "running":
                self._age(record, script, now)

    def _age(self, record: ContainerRecord, script: Script, now: datetime) -> None:
        """Bring a running container to what it is now: ready or not, or ended."""
        started = record.started_at
        assert started is not None
        ended, code = None, 0
        run_for = script.run_for(record)
        if run_for is not None and started + run_for <= now:
            ended, code = started + run_for, script.exit_code(record)
        if script.restart_at is not None and started < script.restart_at.replace(microsecond=0) <= now:
            ended, code = now, _KILLED
        if ended is not None:
            self._stop_all([record], code, ended)
            return
        record.ready = record.kind != "init" and script.ready(record) and started + script.ready_delay(record) <= now

    def _due(self, record: ContainerRecord, script: Script, now: datetime) -> Iterable[datetime]:
        """When a running container will be different."""
        started = record.started_at
        assert started is not None
        run_for, restart_at = script.run_for(record), script.restart_at
        if run_for is not None:
            yield started + run_for
        if restart_at is not None and restart_at > now:
            yield restart_at
        if not record.ready and script.ready(record) and record.kind != "init":
            yield started + script.ready_delay(record)

    def _stop_all(self, records: Iterable[ContainerRecord], code: int, when: datetime) -> None:
        for record in records:
            if record.state == "running":
                reason = "Error" if code else "Completed"
                record.end(Termination(code, reason, record.id, started_at=record.started_at, finished_at=when))

    # ---- ending

    def _end(self, pod: Object, now: datetime, step: Step) -> None:
        metadata = pod["metadata"]
        grace = timedelta(seconds=metadata.get("deletionGracePeriodSeconds") or 0)
        asked = meta.parse_time(metadata["deletionTimestamp"]) - grace
        try:
            wanted = Script(pod).stop_delay
        except ScriptError:
            wanted = timedelta(0)
        ends = asked + min(wanted, grace)
        if now < ends:
            step.by(ends, now)
            return
        step.gone = True
        # Who holds the pod by a finalizer wants to know how it ended; nobody else will ever see its last status.
        if metadata.get("finalizers"):
            self._stop_all(self._records.values(), _KILLED if wanted > grace else _STOPPED, now)
            for record in self._records.values():
                if record.state == "waiting" and record.latest is not None:
                    record.end(record.latest)
            self._report(pod, now, step, sandbox=False, ended=True)

    # ---- reporting

    def _report(
        self,
        pod: Object,
        now: datetime,
        step: Step,
        *,
        sandbox: bool,
        failure: tuple[str, str] | None = None,
        ended: bool = False,
    ) -> None:
        facts = PodFacts(
            host_ips=self._host,
            pod_ips=self._addresses,
            start_time=self._start_time,
            runtime=RUNTIME,
            sandbox_ready=sandbox,
            failure=failure,
            ended=ended,
        )
        step.status = build_status(pod, self._records, facts, now)
