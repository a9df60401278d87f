"""What holds of claims, volumes and the pods that use them, whatever users do, and when everything starts anew.

The scheduler, the binder, the provisioner and protection work together here, as in a cluster.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from kubecore.api import errors, meta
from kubecore.api import persistent_volumes as volumes
from kubecore.client.client import Object
from kubecore.client.informer import InformerFactory
from kubecore.controllers.base import ControllerContext
from kubecore.controllers.volumes.binder import VolumeBinder
from kubecore.controllers.volumes.local_provisioner import PROVISIONER, LocalProvisioner
from kubecore.controllers.volumes.protection import ClaimProtection, VolumeProtection
from kubecore.scheduler.scheduler import Scheduler
from tests.unit.controllers.laws import INDEX, QUIET_SECONDS, Laws, Part
from tests.unit.controllers.volumes.objects import (
    CLAIMS,
    CLASSES,
    VOLUMES,
    Folders,
    claim,
    pod_with,
    storage_class,
    volume,
)
from tests.unit.controllers.volumes.test_local_provisioner import FOLDER

SIZES = st.sampled_from(["1Gi", "2Gi", "3Gi"])
CLASS = st.sampled_from(["", "late", "standard"])
"""None at all; volumes that people make, chosen with the node; volumes that are provisioned."""
FAILING = [f"update {CLAIMS}", f"update {CLAIMS}/status", f"update {VOLUMES}", f"update {VOLUMES}/status"]
FAILING += [f"create {VOLUMES}", f"delete {VOLUMES}", "create pods/binding"]


class VolumeLaws(Laws):
    def __init__(self) -> None:
        super().__init__()
        self.folders = Folders()
        self.made = 0

    def parts(self, informers: InformerFactory) -> Iterable[Part]:
        context = ControllerContext(self.api.client("manager"), self.clock, informers)
        return [
            VolumeBinder(context, self.folders),
            LocalProvisioner(context, FOLDER, self.folders),
            ClaimProtection(context),
            VolumeProtection(context),
            Scheduler(self.api.client("scheduler"), self.clock, informers=informers),
        ]

    def ask(self, request: Coroutine[Any, Any, Any]) -> None:
        """A user's request, which may be refused."""

        async def one() -> None:
            try:
                await request
            except errors.StatusError:
                pass

        self.loop.run_until_complete(one())

    def name(self, kind: str) -> str:
        self.made += 1
        return f"{kind}{self.made}"

    @initialize()
    def begin(self) -> None:
        for zone in ("a", "b"):
            labels = {"kubernetes.io/hostname": zone, "zone": zone}
            ready = {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"pods": "110"}}
            self.api.add("nodes", {"metadata": {"name": zone, "labels": labels}, "spec": {}, "status": ready})
        late = storage_class("late", provisioner=volumes.NO_PROVISIONER, mode="WaitForFirstConsumer")
        self.api.add(CLASSES, late)
        self.start()

    # ------------------------------------------------------------------ users
    @rule(size=SIZES, of_class=CLASS)
    def a_claim_is_made(self, size: str, of_class: str) -> None:
        protected = {"finalizers": [ClaimProtection.finalizer]}
        self.api.add(CLAIMS, claim(self.name("c"), size=size, storageClassName=of_class, metadata=protected))

    @rule(size=SIZES, of_class=st.sampled_from(["", "late"]), zone=st.sampled_from(["", "a", "b"]))
    def a_volume_is_made(self, size: str, of_class: str, zone: str) -> None:
        term = {"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]}
        near = {"nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}} if zone else {}
        protected = {"finalizers": [VolumeProtection.finalizer]}
        made = volume(self.name("v"), size=size, storageClassName=of_class, metadata=protected, **near)
        self.api.add(VOLUMES, made)

    @rule(first=INDEX, second=INDEX)
    def a_pod_is_made(self, first: int, second: int) -> None:
        found = [meta.name(one) for one in self.api.all(CLAIMS)]
        if found:
            chosen = sorted({found[first % len(found)], found[second % len(found)]})
            self.api.add("pods", pod_with(*chosen, name=self.name("p"), schedulerName="default-scheduler"))

    @rule(index=INDEX, resource=st.sampled_from([CLAIMS, VOLUMES, "pods"]))
    def something_is_deleted(self, index: int, resource: str) -> None:
        found = self.api.all(resource)
        if found:
            name = meta.name(found[index % len(found)])
            self.ask(self.api.client().delete(resource, name, "" if resource == VOLUMES else "default"))

    # ------------------------------------------------------------------ what goes wrong
    @rule(times=st.integers(1, 3), verb=st.sampled_from(FAILING))
    def requests_fail(self, times: int, verb: str) -> None:
        self.api.react(verb, errors.internal_error("it is not well"), times=times)

    @rule()
    def folders_are_refused(self) -> None:
        self.folders.refusals.append(OSError("busy"))

    # ------------------------------------------------------------------ rest
    @rule()
    def everything_is_worked_off(self) -> None:
        for _ in range(40):
            before = self.api.revision
            self.wait(QUIET_SECONDS)
            for pod in self.api.all("pods"):
                if meta.is_deleting(pod):
                    self.api.remove("pods", meta.name(pod))
            if not any(self.changes_since(before)):
                break
        self.check_bindings()
        self.check_pods()
        self.check_folders()

    def changes_since(self, revision: int) -> list[Object]:
        """Of what matters; events are told anew for ever."""
        everything = [one for resource in (CLAIMS, VOLUMES, "pods") for one in self.api.all(resource)]
        return [one for one in everything if int(meta.resource_version(one)) > revision]

    def check_bindings(self) -> None:
        held = {meta.name(one): one for one in self.api.all(VOLUMES)}
        claims = {meta.uid(one): one for one in self.api.all(CLAIMS)}
        taken = set()
        for one in claims.values():
            phase, name = one["status"]["phase"], one["spec"].get("volumeName")
            assert phase in ("Bound", "Pending")
            assert (phase == "Bound") == bool(name)
            if name:
                assert name not in taken
                taken.add(name)
                assert held[name]["spec"]["claimRef"]["uid"] == meta.uid(one)
                assert held[name]["status"]["phase"] == "Bound"
                assert not volumes.mismatch({**held[name], "metadata": {"name": name}}, one)
            elif one["spec"]["storageClassName"] == "":
                free = [other for other in held.values() if other["status"]["phase"] == "Available"]
                assert volumes.find_matching(one, free) is None
        for name, one in held.items():
            assert one["status"]["phase"] in ("Bound", "Available", "Released")
            assert (one["status"]["phase"] == "Bound") == (name in taken)

    def check_pods(self) -> None:
        for pod in self.api.all("pods"):
            found = [self.api.get(CLAIMS, name) for name, _ in volumes.claims_of_pod(pod)]
            if node := pod["spec"].get("nodeName"):
                for one in found:
                    assert one is not None
                    there = self.api.get(VOLUMES, one["spec"]["volumeName"])
                    assert there is not None
                    assert volumes.reachable(there, self.api.get("nodes", node) or {})
            elif len(found) == 1 and found[0] and found[0]["spec"]["storageClassName"] == "standard":
                assert meta.is_deleting(found[0])

    def check_folders(self) -> None:
        """A folder for each volume that was provisioned, and no other."""
        there = {
            one["spec"]["hostPath"]["path"]
            for one in self.api.all(VOLUMES)
            if meta.annotations(one).get(volumes.PROVISIONED_BY) == PROVISIONER
        }
        assert {str(path) for path in self.folders.there()} - {str(FOLDER)} == there


TestVolumeLaws = VolumeLaws.TestCase
TestVolumeLaws.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
