"""One pod on this node: brings what runs to what is wanted, and tells the API what is.

A worker goes through *sync* (start, restart, report, again at every change), *terminating* (containers stop in order
within the grace period) and *terminated* (everything of the pod is removed from the node, then the pod from the API).
It is level-triggered: whatever happens only wakes it, and it looks at everything anew.
"""

from __future__ import annotations

import asyncio
import logging
import random
import shutil
from collections.abc import Set
from datetime import datetime, timedelta
from typing import Any

from kubecore.api import meta
from kubecore.api.errors import StatusError
from kubecore.background_tasks import unless
from kubecore.clock import Timer
from kubecore.kubelet.logs import writing as logs
from kubecore.kubelet.node.counts import PodNow
from kubecore.kubelet.node.services import NodeServices
from kubecore.kubelet.pods import adoption, allocations, last_words, troubles
from kubecore.kubelet.pods import presence as pod_presence
from kubecore.kubelet.pods.lifecycle import hold_back, is_finished, next_actions
from kubecore.kubelet.pods.operations import ContainerOperations
from kubecore.kubelet.pods.records import ContainerRecord, add_ephemeral, nothing_alive, records_of
from kubecore.kubelet.pods.resizing import Resizer, granted
from kubecore.kubelet.pods.sandbox import PodPlace, PodSandbox, refresh_hosts
from kubecore.kubelet.pods.status import FINAL, PodFacts, build_status, refused_status
from kubecore.kubelet.pods.status_writer import StatusWriter
from kubecore.kubelet.pods.view import Ending, grace_seconds, relevant, start_time
from kubecore.kubelet.runtime.interface import ContainerStatus, Runtime, RuntimeFailure
from kubecore.kubelet.serving import usage
from kubecore.kubelet.serving.usage import RunningPod
from kubecore.kubelet.volumes.images import StillPulling
from kubecore.kubelet.volumes.manager import SetUpError, Volume, is_filled
from kubecore.kubelet.volumes.sources import VolumeSurroundings

log = logging.getLogger(__name__)

Object = dict[str, Any]

# Like upstream's pod workers, which wait for ten to fifteen seconds; what passes at once is not waited for as long.
_RETRY_SECONDS, _LONGEST_RETRY_SECONDS, _JITTER = 1.0, 10.0, 0.5
_RESIZE_SECONDS = 10.0
# Upstream's podAttachAndMountTimeout.
_LONGEST_PREPARATION_SECONDS = 123.0
# As long as upstream's status manager leaves a status that somebody else has changed.
_RECONCILE, _RECONCILE_SECONDS = "reconcile", 10.0
_TOO_LONG = ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")


class PodWorker:
    """`run` returns when nothing of the pod is left on the node."""

    def __init__(self, pod: Object, services: NodeServices, writer: StatusWriter | None = None) -> None:
        """`writer`: of a pod that is not in the API as it is."""
        self.pod = pod
        self.uid = meta.uid(pod)
        self._services = services
        self._left = services.left.take(self.uid)
        alive = self._left.alive if self._left is not None else nothing_alive
        self._records = records_of(
            pod,
            alive=alive,
            interrupted=last_words.read(services.pod_directory(self.uid)),
            granted=allocations.read(services.pod_directory(self.uid)),
            longest_back_off=services.longest_back_off,
        )
        self._sandbox = PodSandbox(services, self.wake)
        self._operations = ContainerOperations(services, self._sandbox, self.wake, self._publish)
        self._operations.records = self._records
        self._resizer = Resizer(pod, services, self._operations)
        self._status = writer or StatusWriter(services.client, pod)
        self._times = services.metrics.pods.of(pod, services.clock)
        self._updated = False
        self._wakened = asyncio.Event()
        self._wakened.set()
        self._timers: dict[str, Timer] = {}
        self._failures = 0
        self._start_time = start_time(pod) or services.clock.now()
        self._failure: tuple[str, str] | None = None
        self._was_final = (pod.get("status") or {}).get("phase") in FINAL
        self._admitted = start_time(pod) is not None
        self._removed = False
        self._eviction: Ending | None = None
        self._over = asyncio.Event()
        self._terminating = False
        self._ended = False

    def keep_last_words(self, interrupted: Set[str]) -> None:
        """The kubelet ends, and has ended these containers."""
        last_words.keep(self._services.pod_directory(self.uid), self._records.values(), interrupted)

    # ---- what happens to it

    def update(self, pod: Object) -> None:
        """The API's newest view of the pod."""
        old, self.pod = self.pod, pod
        if self._status.seen(pod):
            self._wake_after(_RECONCILE, _RECONCILE_SECONDS)
        self._times.watched(pod)
        if relevant(old) != relevant(pod):
            self._updated = True
            self._wake_or_leave()

    def removed(self) -> None:
        """The pod is gone from the API: nothing is to be reported any more."""
        self._removed = True
        self._wake_or_leave()

    def evict(self, text: str, grace_seconds: float, *, disrupted: bool) -> None:
        """End it for good, as Failed for the reason Evicted. `disrupted`: through no fault of its own."""
        if self._eviction is None:
            self._services.recorder.event(self.pod, "Warning", "Evicted", text)
        self.end(Ending("Evicted", text, grace_seconds, disrupted))

    def end(self, ending: Ending) -> asyncio.Event:
        """End it for good, as Failed. Set when it has, and its status is written. Another one, or one while it is being
        deleted, can only leave it less time."""
        if self._eviction is None:
            self._timers["late"] = troubles.tell_if_late(self.pod, ending.grace_seconds, self._over, self._services)
        self._eviction = self._eviction or ending
        self._operations.end_within(ending.grace_seconds)
        self._operations.leaving.set()
        self.wake()
        return self._over

    def _wake_or_leave(self) -> None:
        """Once the pod is to end, its time runs, and a container that is being started is not waited for any more."""
        if self._should_end():
            self._operations.end_within(self._grace())
            self._operations.leaving.set()
        self.wake()

    def wake(self) -> None:
        self._wakened.set()
        self._operations.lasting.changed()

    def container_ended(self, status: ContainerStatus) -> bool:
        """True if the container is one of this pod's."""
        for record in self._records.values():
            if record.id == status.id:
                if record.state == "running":
                    self._operations.ended(record, status)
                    self.wake()
                return True
        return False

    @property
    def takes_room(self) -> bool:
        """The node has admitted it and has not got rid of it yet."""
        ended = self._removed or self._ended or (self.pod.get("status") or {}).get("phase") in FINAL
        return self._admitted and not ended

    @property
    def granted(self) -> Object:
        """The pod with the resources that the node has granted it."""
        return granted(self.pod, self._records)

    @property
    def runtime(self) -> Runtime | None:
        return self.place.runtime if self.place else None

    @property
    def place(self) -> PodPlace | None:
        """None before its sandbox is made."""
        return self._sandbox.place

    def record(self, container: str) -> ContainerRecord | None:
        return self._records.get(container)

    def running(self) -> RunningPod:
        """What of it runs now."""
        return usage.running_pod(self.pod, self._records.values(), self.place)

    def now(self) -> PodNow:
        stage = "terminated" if self._ended else "terminating" if self._terminating else "sync"
        return PodNow(self.pod, stage, self.takes_room, not self._removed, *self._resizer.stage)

    # ---- the loop

    async def run(self) -> None:
        try:
            await self._adopt()
            while not self._should_end():
                await self._wakened.wait()
                self._wakened.clear()
                if not self._should_end():
                    began, updated, self._updated = self._services.clock.monotonic(), self._updated, False
                    await self._guarded_sync()
                    self._times.synced(began, updated=updated)
            self._terminating = True
            await self._terminate()
        finally:
            self._over.set()
            self._cancel_timers()
            await self._operations.close()

    def _should_end(self) -> bool:
        return self._removed or meta.is_deleting(self.pod)

    async def _guarded_sync(self) -> None:
        try:
            await self._sync()
        except (SetUpError, RuntimeFailure) as error:
            troubles.tell(error, self.pod, self._records, self._services.recorder)
            await self._publish()
            self._retry()
        except StillPulling:
            await self._publish()
        except (StatusError, OSError) as error:
            log.warning("pod %s: %s", meta.key(self.pod), error)
            self._retry()
        except Exception:
            log.exception("pod %s could not be synced", meta.key(self.pod))
            self._retry()
        else:
            self._failures = 0

    def _retry(self) -> None:
        seconds = min(_RETRY_SECONDS * 2.0**self._failures, _LONGEST_RETRY_SECONDS * (1 + _JITTER * random.random()))
        self._failures = min(self._failures + 1, 16)
        self._wake_after("retry", seconds)

    def _wake_after(self, name: str, seconds: float) -> None:
        """At most one timer of a name: the latest asked for."""
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
        self._timers[name] = self._services.clock.call_later(seconds, self.wake)

    def _cancel_timers(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    async def _adopt(self) -> None:
        """Take up what a former kubelet has started of it."""
        left, statuses = self._left, self._left.containers() if self._left is not None else []
        names = (meta.namespace(self.pod), meta.name(self.pod), self.uid)
        adoption.find_logs(self._records, statuses, logs.pod_log_directory(self._services.root, *names))
        if left is None:
            return
        if self._was_final:
            await adoption.remove(left)
            return
        await self._sandbox.take_over(self.pod, self.granted, left)
        self._operations.pod = self.pod
        self._operations.take_up(statuses)

    # ---- sync

    async def _sync(self) -> None:
        self._operations.pod = self.pod
        if self._was_final:
            return
        if self._failure and not self._anything_runs:  # the API may not have heard of it
            await self._publish()
            return
        if not await self._admit() or await self._evicted() or await self._deadline_passed():
            return
        if self.place is None and is_finished(self.pod, self._records):  # it gets no sandbox any more
            await self._finish()
            return
        if (volumes := await self._prepared()) is None:
            return
        if (place := await self._ensure_sandbox(volumes)) is None:
            return
        refresh_hosts(self.pod, place.ips, self._services)
        if place.runtime.images is not None:
            troubles.tell_missing_pull_secrets(self.pod, self._services.objects.get, self._services.recorder)
        await self._resizer.resize(self.pod, self._records, self._publish)
        if self._resizer.unfinished:
            self._wake_after("resize", _RESIZE_SECONDS)
        self._operations.take_changes()
        while True:
            now = self._services.clock.now()
            add_ephemeral(self.pod, self._records)
            actions = next_actions(self.pod, self._records, now)
            if actions.finished:
                await self._finish()
                break
            for name, remaining in actions.back_off.items():
                self._hold_back(name, remaining)
            for name in actions.start:
                record = self._records[name]
                # It is being created as long as its hook takes; and a former end is told until it has outlived that.
                if "postStart" in (record.spec.get("lifecycle") or {}) or record.ended_soon:
                    await self._publish()
                await self._operations.start(self._records[name])
                if self._operations.leaving.is_set():
                    return
            if not actions.start or self._stuck(actions.start):
                break
        if not self._operations.about_to_be_ready:  # a status less to write for each container
            await self._publish()

    async def _admit(self) -> bool:
        if self._admitted:
            return True
        refusal = await self._services.admission.refusal(self.pod)
        self._admitted = refusal is None
        if refusal is not None:
            self._failure = (refusal.reason, refusal.message)
            self._services.metrics.refused(refusal.reason)
            self._services.recorder.event(self.pod, "Warning", *refusal)
            await self._publish()
        return self._admitted

    def _stuck(self, started: list[str]) -> bool:
        """Some could not even be created: try again later, not at once."""
        pulling = self._operations.pulling
        if any(self._records[name].state == "waiting" or name in pulling for name in started):
            self._wake_after("create", 10.0)
            return True
        return False

    def _hold_back(self, name: str, remaining: timedelta) -> None:
        record = self._records[name]
        message = hold_back(self.pod, record)
        if message:
            self._services.recorder.event(self.pod, "Warning", "BackOff", message, field_path=record.field_path)
        self._wake_after(f"back-off {name}", remaining.total_seconds())

    async def _prepared(self) -> dict[str, Volume] | None:
        """None once the pod is to end. Raises TimeoutError where a server does not answer: there may be news of the
        pod. Upstream tells of neither."""
        try:
            async with self._services.clock.timeout(_LONGEST_PREPARATION_SECONDS):
                return (await self._operations.lasting.of(unless(self._operations.leaving, self._prepare())))[1]
        except TimeoutError as error:
            await self._publish()
            raise TimeoutError("its volumes are not mounted yet") from error

    async def _prepare(self) -> dict[str, Volume]:
        directory = self._services.pod_directory(self.uid)
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        await self._services.objects.use(self.pod)
        services = self._services
        pod_ips = self.place.ips if self.place else ()
        around = VolumeSurroundings(services.facts, pod_ips, services.objects.get, services.tokens.token)
        volumes = await services.volumes.set_up(self.pod, around)
        refresh = services.tokens.next_refresh(self.uid)
        if refresh is not None and any(is_filled(one) for one in self.pod["spec"].get("volumes") or []):
            self._wake_after("token", max((refresh - services.clock.now()).total_seconds(), 1.0))
        return volumes

    async def _ensure_sandbox(self, volumes: dict[str, Volume]) -> PodPlace | None:
        """One that is lost is made anew, unless no container is to run any more. None once the pod is to end."""
        if not next_actions(self.pod, self._records, self._now()).finished:
            await self._sandbox.drop_lost(self.pod)
        if self._sandbox.place is None:
            self._operations.leave_sandbox()
        made = self._sandbox.ensure(self.pod, self.granted, volumes)
        return await self._operations.lasting.of(self._sandbox.in_time(made, self._operations.leaving))

    def refresh_names(self) -> None:
        """Services changed: bring /etc/hosts up to date at once, without a whole sync."""
        place = self._sandbox.place
        if place is not None and not self._terminating:
            refresh_hosts(self.pod, place.ips, self._services)

    async def _deadline_passed(self) -> bool:
        seconds = self.pod["spec"].get("activeDeadlineSeconds")
        if seconds is None:
            return False
        left = self._start_time + timedelta(seconds=seconds) - self._services.clock.now()
        if left > timedelta(0):
            self._wake_after("deadline", left.total_seconds())
            return False
        self._services.recorder.event(self.pod, "Normal", *_TOO_LONG)
        await self._fail(_TOO_LONG, self._grace())
        return True

    async def _evicted(self) -> bool:
        eviction = self._eviction
        if eviction is None:
            return False
        await self._fail((eviction.reason, eviction.text), eviction.grace_seconds)
        self._over.set()
        return True

    async def _fail(self, failure: tuple[str, str], grace_seconds: float) -> None:
        """It is not ready from now on; what the failure was is told once nothing of it runs any more."""
        self._failure = failure
        if self._anything_runs:
            await self._publish()
        await self._operations.lasting.of(self._operations.stop_in_time(grace_seconds), told=True)
        await self._finish()

    async def _finish(self) -> None:
        """No container runs any more but sidecars: end those and give the address back."""
        if self._anything_runs:
            self._operations.take_for_proven()
            await self._publish()
        await self._operations.stop_in_time(self._grace())
        await self._sandbox.stop()
        await self._publish()

    # ---- status

    @property
    def _anything_runs(self) -> bool:
        return any(record.state == "running" for record in self._records.values())

    async def _publish(self) -> None:
        if self._removed:
            return
        if self._failure and not self._admitted:
            await self._write(refused_status(self.pod, *self._failure))
            return
        place = self.place
        finished = self._failure is not None or next_actions(self.pod, self._records, self._now()).finished
        stopped = finished and not self._anything_runs
        facts = PodFacts(
            host_ips=self._services.facts.host_ips,
            pod_ips=place.ips if place else (),
            start_time=self._start_time,
            runtime=place.runtime.name if place else "host",
            sandbox_ready=place is not None and not stopped and not self._terminating,
            failure=self._failure,
            ended=self._ended,
            disruption=self._eviction.text if self._eviction and self._eviction.disrupted else "",
            resize_pending=self._resizer.pending,
            resizing=self._resizer.progress,
            doubted=self._operations.doubted,
        )
        await self._write(build_status(self._status.current(self.pod), self._records, facts, self._now()))

    async def _write(self, status: Object) -> None:
        self._times.told(status)
        began = self._services.clock.monotonic()
        try:
            if await self._status.write(status):
                self._times.written(began)
        except (StatusError, OSError) as error:
            log.warning("status of pod %s was not taken: %s", meta.key(self.pod), error)
            self._retry()

    def _now(self) -> datetime:
        return self._services.clock.now()

    # ---- the end

    def _grace(self) -> float:
        granted = grace_seconds(self.pod)
        return 1.0 if self._removed and not granted else granted

    async def _terminate(self) -> None:
        self._cancel_timers()
        self._operations.pod = self.pod
        if self._anything_runs:
            await self._publish()
        failures = 0
        while not await self._stopped():
            failures += 1
            await self._services.clock.sleep(min(2.0**failures, 30.0))
        await pod_presence.delete_from_api(self.pod, self._services, self._report_the_end, lambda: self._removed)
        self._remove_files()

    async def _stopped(self) -> bool:
        """False where the runtime failed to do its part: it is asked again."""
        try:
            await self._operations.lasting.of(self._operations.stop_in_time(self._grace()), told=True)
            await self._sandbox.stop()
            for record in self._records.values():
                if record.state == "waiting" and record.latest is not None:
                    record.end(record.latest)
            self._ended = True
            await self._clean_up()
        except (RuntimeFailure, OSError) as error:
            log.warning("pod %s could not be ended: %s", meta.key(self.pod), error)
            if isinstance(error, RuntimeFailure):
                troubles.tell(error, self.pod, self._records, self._services.recorder)
            return False
        return True

    async def _clean_up(self) -> None:
        """Volumes first: a service account token must not outlive its pod."""
        self._services.volumes.take_down(self.uid)
        await self._sandbox.remove()
        self._services.cgroups.remove(self.uid)
        await self._services.objects.release(self.uid)
        self._services.tokens.forget(self.uid)
        self._services.puller.forget(self.uid)

    async def _report_the_end(self) -> None:
        # of one that was never started, who holds it must be told that it will not be
        if meta.finalizers(self.pod) or any(record.attempted for record in self._records.values()):
            await self._publish()

    def _remove_files(self) -> None:
        ids = {record.name: record.id for record in self._records.values()}
        logs.remove_pod(self._services.root, meta.namespace(self.pod), meta.name(self.pod), self.uid, ids)
        shutil.rmtree(self._services.pod_directory(self.uid), ignore_errors=True)
