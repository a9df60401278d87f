"""Starts and stops the containers of one pod, with their hooks, probes, messages and events."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from kubecore.background_tasks import BackgroundTasks, unless
from kubecore.images.store import Image, ImageStore
from kubecore.kubelet.node.services import NodeServices
from kubecore.kubelet.pods import container_files
from kubecore.kubelet.pods.adoption import take_up
from kubecore.kubelet.pods.back_off import BackOff
from kubecore.kubelet.pods.containers import check_sub_paths, container_config, named_ports
from kubecore.kubelet.pods.environment import ConfigError
from kubecore.kubelet.pods.hooks import run_hook
from kubecore.kubelet.pods.late_starts import LateStarts
from kubecore.kubelet.pods.lifecycle import restarts, restarts_after_a_probe
from kubecore.kubelet.pods.long_work import LongWork
from kubecore.kubelet.pods.prober import Kind, Prober
from kubecore.kubelet.pods.probes import Result, Target, Verdict, probe_once
from kubecore.kubelet.pods.proving import Proving
from kubecore.kubelet.pods.records import ContainerRecord, Termination
from kubecore.kubelet.pods.sandbox import PodPlace, PodSandbox
from kubecore.kubelet.pods.termination_messages import termination_message
from kubecore.kubelet.runtime.interface import ContainerState, ContainerStatus, ExecResult, Runtime, RuntimeFailure

log = logging.getLogger(__name__)

Object = dict[str, Any]

# A container is given this long even if nothing is left of the grace (upstream minimumGracePeriodInSeconds).
_LEAST_GRACE_SECONDS = 2.0
_TROUBLES = {
    Result.FAILURE: "failed: {}",
    Result.WARNING: "warning: {}",
    Result.UNKNOWN: "errored and resulted in {1} state: {0}",
}


class _Made(NamedTuple):
    """A container that is to be started. `previous`: the one of the attempt before."""

    place: PodPlace
    id: str
    previous: str


class ContainerOperations:
    """`changed` is called whenever a record changed outside of a call (a probe's verdict, time gone by). `tell` writes
    the pod's status."""

    def __init__(
        self,
        services: NodeServices,
        sandbox: PodSandbox,
        changed: Callable[[], None],
        tell: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self._services = services
        self._sandbox = sandbox
        self._changed = changed
        self._probers: dict[str, Prober] = {}
        self._proving = Proving(services.clock, changed)
        self.tasks = BackgroundTasks(log)
        self.pod: Object = {}
        self.records: Mapping[str, ContainerRecord] = {}
        self.pulling = set[str]()
        """Names of those that will be started once their image is there."""
        self.leaving = asyncio.Event()
        """Set when the pod is to end: what has been begun for its start is not gone on with."""
        self._late = LateStarts(services.clock, self.leaving)
        self.lasting = LongWork(services.clock, tell)
        self._kill_at = math.inf
        self._granted_seconds = math.inf
        self._shortened = asyncio.Event()

    @property
    def place(self) -> PodPlace | None:
        """Where they run."""
        return self._sandbox.place

    async def close(self) -> None:
        """No start is left behind."""
        for prober in self._probers.values():
            prober.stop()
        self._probers.clear()
        self._proving.close()
        self.tasks.cancel()
        if self.pod:
            self._services.metrics.probes.forget(self.pod)
        await self._late.close()

    # ---- starting

    async def start(self, record: ContainerRecord) -> None:
        """Start the next attempt; outcomes are noted in the record and told in events. Once the pod is to end nothing
        is begun any more; a start that is under way then goes on, and `stop_in_time` takes it up."""
        over, made = await self.lasting.of(unless(self.leaving, self._make(record)))
        self.pulling.discard(record.name)
        if isinstance(made, str):
            self._services.metrics.container_started(record, made)
        elif made is None:
            if over:
                self.pulling.add(record.name)
        elif not self.leaving.is_set() and await self._begun(record, made):
            await self._after_start(record)
            self._take_end(record, made)

    async def _begun(self, record: ContainerRecord, made: _Made) -> bool:
        """Its hook is no part of the long work: it is told as being created for as long as that takes."""
        return await self.lasting.of(self._late.in_time(record.name, self._begin(record, made)))

    async def _make(self, record: ContainerRecord) -> _Made | str | None:
        """A container for it, or the word for what has failed; None while its image is being pulled."""
        place = self.place
        if place is None:
            raise RuntimeError("the pod has no sandbox")
        attempt = record.next_attempt
        try:
            image = await self._image(record, place.runtime)
        except RuntimeFailure as error:
            record.wait(error.reason, error.message)
            self._event(record, "Warning", "Failed", f"Error: {error.reason}")
            return error.reason
        if image is None and place.runtime.images is not None:
            return None
        try:
            config = container_config(
                self.pod,
                record.spec,
                place.around,
                place.volumes,
                container_files.make(self._services, self.pod, record, attempt),
                extra_environment={"KUBECORE_POD_IP": place.ip},
                memory_capacity=self._services.memory_capacity,
                root_by_default=place.runtime.root_by_default,
                image=image,
            )
            config = replace(config, target=self._target_id(record))
            await check_sub_paths(record.spec, config.mounts, self._services.clock)
        except ConfigError as error:
            record.wait("CreateContainerConfigError", str(error))
            self._event(record, "Warning", "Failed", f"Error: {error}")
            return "CreateContainerConfigError"
        try:
            container_id = await place.runtime.create_container(place.sandbox_id, config)
        except RuntimeFailure as error:
            record.wait(error.reason, error.message)
            self._event(record, "Warning", "Failed", f"Error: {error.message}")
            return error.reason
        record.image_id = image.told if image is not None else ""
        self._event(record, "Normal", "Created", "Container created")
        ended = record.counted_end
        if ended is not None and ended.finished_at is not None and not ended.interrupted:
            record.back_off.restarted(ended.finished_at, self._services.clock.now())
        previous = record.id
        record.restart_count = attempt
        container_files.link_log(self._services, self.pod, record, container_id, config.log_path)
        return _Made(place, container_id, previous)

    async def _begin(self, record: ContainerRecord, made: _Made) -> None:
        """Start it. Where that is given up it may have started all the same, of which the record tells."""
        runtime, code = made.place.runtime, ""
        try:
            await runtime.start_container(made.id)
            record.run(made.id, self._services.clock.now())
        except RuntimeFailure as error:
            record.run(made.id, self._services.clock.now())
            record.end(self._failed_start(made.id, error))
            self._event(record, "Warning", "Failed", f"Error: {error.message}")
            code = error.reason
        except asyncio.CancelledError:
            with suppress(RuntimeFailure):
                if runtime.container_status(made.id).state is not ContainerState.CREATED:
                    record.run(made.id, self._services.clock.now())
                    self._take_end(record, made)
            raise
        finally:
            await self._collect(record.name, made.place, kept=(made.id, made.previous))
        if not code:
            status = runtime.container_status(made.id)  # also of when: the next kubelet hears that
            record.user, record.started_at = status.user, status.started_at or record.started_at
            self._event(record, "Normal", "Started", "Container started")
            if self.leaving.is_set():  # nothing comes after the start
                self._take_end(record, made)
        self._services.metrics.container_started(record, code)

    def _take_end(self, record: ContainerRecord, made: _Made) -> None:
        """If it has ended by now: nobody was told, since it was not known yet."""
        status = made.place.runtime.container_status(made.id)
        if status.state is ContainerState.EXITED and record.state == "running":
            self.ended(record, status)

    async def _collect(self, name: str, place: PodPlace, kept: Sequence[str]) -> None:
        """One that has ended stays for who looks into the runtime, those before it go. (Upstream's container garbage
        collection with its defaults: `pkg/kubelet/kuberuntime/kuberuntime_gc.go`.)"""
        for one in list(place.runtime.list_containers(place.sandbox_id)):
            if one.name == name and one.id not in kept and one.state is not ContainerState.RUNNING:
                try:
                    await place.runtime.remove_container(one.id)
                except (RuntimeFailure, TimeoutError) as error:  # it goes with a later one, or with the pod
                    self._services.warn_of_node("ContainerGCFailed", f"failed to remove container {one.id}: {error}")

    async def _image(self, record: ContainerRecord, runtime: Runtime) -> Image | None:
        """None while it is being pulled, or where there is no need of one."""
        images = runtime.images
        if images is None:
            return None
        return await self._services.puller.image_for(
            self.pod,
            record.spec,
            lambda kind, reason, message: self._event(record, kind, reason, message),
            self._changed,
            None if isinstance(images, ImageStore) else images,
        )

    def _target_id(self, record: ContainerRecord) -> str:
        name = record.spec.get("targetContainerName")
        if not name:
            return ""
        target = self.records.get(name)
        if target is None or target.state != "running":
            raise ConfigError(f"unable to find target container {name}")
        return target.id

    def _failed_start(self, container_id: str, error: RuntimeFailure) -> Termination:
        """It has not started, which is told as containerd does."""
        never, now = datetime.fromtimestamp(0, UTC), self._services.clock.now()
        return Termination(128, "StartError", container_id, message=error.message, started_at=never, finished_at=now)

    async def _after_start(self, record: ContainerRecord) -> None:
        """It is not ready, nor is another one started, before its hook has been run."""
        hook = (record.spec.get("lifecycle") or {}).get("postStart")
        if (hook is None or await self._post_start(record, hook)) and record.state == "running":
            self.watch(record)

    def leave_sandbox(self) -> None:
        """What there is was made in a sandbox that is lost, if any; the pod gets a new one."""
        for record in self.records.values():
            record.leave_sandbox()

    def take_up(self, statuses: Iterable[ContainerStatus]) -> None:
        """What a former kubelet has started of the pod, or seen the end of, or not."""
        left = list(statuses)
        names = {status.name for status in left}
        for name, known in self.records.items():
            known.in_sandbox = name in names or not known.attempted
        for status in left:
            record = self.records.get(status.name)
            if record is not None and take_up(record, status):
                self.ended(record, status)
        for record in self.records.values():
            if record.state == "running":
                self.watch(record)

    def watch(self, record: ContainerRecord) -> None:
        """Probe a container that runs, or see whether it goes on, until it ends."""
        self._proving.watch(record)
        target = self._target(record)
        container_id = record.id
        if any(f"{kind}Probe" in record.spec for kind in ("startup", "readiness", "liveness")):
            prober = Prober(
                record.spec,
                self._services.clock,
                lambda probe: probe_once(probe, target, self._services.clock),
                on_result=lambda kind, success: self._probed(record, container_id, kind, success),
                on_trouble=lambda kind, verdict: self._troubled(record, kind, verdict),
                on_try=lambda kind, result, seconds: self._services.metrics.probes.tried(
                    self.pod, record.name, kind, result.value, seconds
                ),
            )
            self._probers[container_id] = prober
            prober.start(started=record.started and "startupProbe" in record.spec)

    @property
    def about_to_be_ready(self) -> bool:
        """Some container will be in a moment, unless it ends; `changed` is called then."""
        return self._proving.soon

    @property
    def doubted(self) -> frozenset[str]:
        """Names of containers that run again and may end as soon as they did before."""
        return self._proving.doubted

    def take_for_proven(self) -> None:
        """Whoever runs has outlived others, and will be stopped for that: nobody waits any longer."""
        for record in self.records.values():
            self._proving.take(record)

    def _target(self, record: ContainerRecord) -> Target:
        place, container_id = self.place, record.id
        if place is None:
            raise RuntimeError("the pod has no sandbox")
        runtime = place.runtime

        async def execute(command: list[str], seconds: float) -> ExecResult:
            return await runtime.exec_sync(container_id, command, seconds)

        variables = {
            one["name"]: one.get("value", "") for one in record.spec.get("env") or [] if "valueFrom" not in one
        }
        return Target(place.ip, named_ports(record.spec), execute, variables)

    async def _post_start(self, record: ContainerRecord, hook: Object) -> bool:
        """True if the container may go on."""
        try:
            over, verdict = await unless(self.leaving, run_hook(hook, self._target(record), self._services.clock, 0))
        except RuntimeFailure as error:
            over, verdict = True, Verdict(Result.FAILURE, error.message)
        if not over or verdict is None:
            return False
        if self._hook_went_well(record, verdict):
            return True
        # Not what the hook said: it may be secret.
        self._event(record, "Warning", "FailedPostStartHook", "PostStartHook failed")
        await self.stop_unless_leaving(record, "FailedPostStartHook")
        if record.state == "terminated" and restarts(self.pod, record):
            record.wait("PostStartHookError", "PostStartHook failed")
        return False

    # ---- probes

    def _probed(self, record: ContainerRecord, container_id: str, kind: Kind, success: bool) -> None:
        if record.id != container_id or record.state != "running":
            return
        if kind == "readiness":
            record.ready = success
        elif kind == "startup" and success:
            record.started = True
            record.ready = "readinessProbe" not in record.spec
        elif not success:
            probe = record.spec[f"{kind}Probe"]
            grace = probe.get("terminationGracePeriodSeconds")
            record.changed = restarts_after_a_probe(self.pod, record)
            message = f"Container {record.name} failed {kind} probe{', will be restarted' if record.changed else ''}"
            if record.kind == "sidecar":
                message = f"Init container {record.name} failed {kind} probe"
            stop = self.stop(record, self._grace() if grace is None else float(grace), message)
            self.tasks.spawn(stop, f"kubelet killing {record.name}")
        self._changed()

    def _troubled(self, record: ContainerRecord, kind: Kind, verdict: Verdict) -> None:
        if record.state == "running":
            told = _TROUBLES[verdict.result].format(verdict.output, verdict.state)
            reason = "ProbeWarning" if verdict.result is Result.WARNING else "Unhealthy"
            self._event(record, "Warning", reason, f"{kind.capitalize()} probe {told}")

    def _grace(self) -> float:
        return float(self.pod["spec"].get("terminationGracePeriodSeconds", 30))

    # ---- stopping

    def take_changes(self) -> None:
        """A container whose image has been changed is restarted, whatever its policy, and at once. Its resources stay
        as they were granted."""
        containers = [*(self.pod["spec"].get("initContainers") or []), *self.pod["spec"]["containers"]]
        for container in containers:
            record = self.records.get(container["name"])
            if record is None or record.spec.get("image") == container.get("image"):
                continue
            granted = {"resources": record.spec["resources"]} if "resources" in record.spec else {}
            record.spec = {**{name: value for name, value in container.items() if name != "resources"}, **granted}
            record.back_off = BackOff(record.back_off.longest)
            if record.state == "running" and record.kind != "init":
                record.changed = True
                told = "Init container {} definition changed", "Container {} definition changed, will be restarted"
                message = told[record.kind == "main"].format(record.name)
                stop = self.stop(record, self._grace(), message)
                self.tasks.spawn(stop, f"kubelet restarting {record.name}")

    def end_within(self, grace_seconds: float) -> None:
        """How long the pod's containers have from now on, unless they have less already."""
        kill_at = self._services.clock.monotonic() + grace_seconds
        if kill_at < self._kill_at or grace_seconds <= 0 < self._granted_seconds:
            self._kill_at = min(kill_at, self._kill_at)
            self._granted_seconds = grace_seconds
            self._shortened.set()

    def _grace_left(self) -> float:
        """Who is told to end only when the time is over, since it has come late, has a moment all the same, unless the
        pod has none at all."""
        left = self._kill_at - self._services.clock.monotonic()
        return max(left, min(self._granted_seconds, _LEAST_GRACE_SECONDS))

    async def stop_in_time(self, grace_seconds: float) -> None:
        """All within this, or less if `end_within` has said so; who is being stopped when it does is stopped anew."""
        self.end_within(grace_seconds)
        while True:
            self._shortened.clear()
            over, _ = await unless(self._shortened, self._stop_all())
            if over:
                return

    async def _stop_all(self) -> None:
        """All preStop hooks at once, then the main ones together, then sidecars one by one, last started first, all
        within one grace period."""
        records = list(self.records.values())
        turn: Sequence[asyncio.Event] = ()
        stops = []
        rest = [record for record in records if record.kind != "sidecar"]
        sidecars = [record for record in records if record.kind == "sidecar"]
        for group in (rest, *([one] for one in reversed(sidecars))):
            over = [asyncio.Event() for _ in group]
            stops += [self._stop_in_turn(*one, turn) for one in zip(group, over, strict=True)]
            turn = [*turn, *over]
        for failed in await asyncio.gather(*stops, return_exceptions=True):
            if failed is not None:
                raise failed

    async def _stop_in_turn(self, record: ContainerRecord, over: asyncio.Event, turn: Sequence[asyncio.Event]) -> None:
        try:
            await self._late.settled(record.name, at_once=self._granted_seconds <= 0)
            await self.stop(record, self._grace_left(), f"Stopping container {record.name}", turn=turn)
        finally:
            over.set()

    async def stop(
        self,
        record: ContainerRecord,
        grace_seconds: float,
        message: str,
        *,
        turn: Sequence[asyncio.Event] = (),
    ) -> None:
        """preStop, SIGTERM, SIGKILL; returns when the container has ended. SIGTERM comes when all of `turn` are set, or
        the time is over."""
        place = self.place
        if place is None or record.state != "running":
            return
        self._event(record, "Normal", "Killing", message)
        prober = self._probers.get(record.id)
        if prober is not None:
            prober.stop_kind("liveness", "startup")
        clock = self._services.clock
        kill_at = clock.monotonic() + grace_seconds
        hook, container_id = (record.spec.get("lifecycle") or {}).get("preStop"), record.id
        if hook and grace_seconds > 0:
            await self._pre_stop(record, hook, grace_seconds)
        with suppress(TimeoutError):
            async with clock.timeout(max(kill_at - clock.monotonic(), 0.0)):
                for other in turn:
                    await other.wait()
        if record.id != container_id or record.state != "running":
            return  # it has ended by itself, and another attempt may have begun
        left = max(kill_at - clock.monotonic(), _LEAST_GRACE_SECONDS if grace_seconds > 0 else 0.0)
        await place.runtime.stop_container(container_id, left)

    async def stop_unless_leaving(self, record: ContainerRecord, message: str) -> None:
        """As `stop`, within the pod's grace. Given up once the pod is to end, when it is stopped with the others."""
        await unless(self.leaving, self.stop(record, self._grace(), message))

    async def _pre_stop(self, record: ContainerRecord, hook: Object, grace_seconds: float) -> None:
        clock = self._services.clock
        try:
            async with clock.timeout(grace_seconds):
                verdict = await run_hook(hook, self._target(record), clock, grace_seconds)
        except (TimeoutError, RuntimeFailure) as error:
            verdict = Verdict(Result.FAILURE, str(error) or "timed out")
        except Exception as error:  # whatever is wrong with a hook, its container is told to end
            log.exception("preStop hook of container %s failed", record.name)
            verdict = Verdict(Result.FAILURE, str(error))
        if not self._hook_went_well(record, verdict):
            self._event(record, "Warning", "FailedPreStopHook", "PreStopHook failed")

    def _hook_went_well(self, record: ContainerRecord, verdict: Verdict) -> bool:
        if verdict.result is Result.WARNING:
            self._event(record, "Warning", "LifecycleHTTPFallback", verdict.output)
        return verdict.result in (Result.SUCCESS, Result.WARNING)

    # ---- ends

    def ended(self, record: ContainerRecord, status: ContainerStatus) -> None:
        """The runtime told that the present attempt ended."""
        prober = self._probers.pop(status.id, None)
        if prober is not None:
            prober.stop()
        self._proving.ended(status.id)
        record.end(
            Termination(
                exit_code=status.exit_code,
                reason=status.reason or ("Completed" if status.exit_code == 0 else "Error"),
                container_id=status.id,
                message=termination_message(
                    container_files.message_file(self._services, self.pod, record), record, status.exit_code
                ),
                started_at=status.started_at,
                finished_at=status.finished_at,
            )
        )

    def _event(self, record: ContainerRecord, type: str, reason: str, message: str) -> None:
        self._services.recorder.event(self.pod, type, reason, message, field_path=record.field_path)
