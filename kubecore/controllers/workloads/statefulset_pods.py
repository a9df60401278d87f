"""Makes, mends and deletes the pods of a StatefulSet and their claims, telling of it in events on the set.

(kubernetes `pkg/controller/statefulset/stateful_pod_control.go`.)
"""

from __future__ import annotations

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.client.client import Client, Object
from kubecore.client.events import EventRecorder
from kubecore.client.informer import SharedInformer
from kubecore.controllers.base import RetryLater
from kubecore.controllers.workloads import statefulset_claims as retention
from kubecore.controllers.workloads import statefulset_identity as identity

CLAIMS = "persistentvolumeclaims"


class StatefulPodControl:
    def __init__(self, client: Client, claims: SharedInformer, recorder: EventRecorder) -> None:
        self._client = client
        self._claims = claims
        self._recorder = recorder

    # ------------------------------------------------------------------ pods
    async def create(self, stateful_set: Object, pod: Object) -> None:
        """The claims first, then the pod."""
        try:
            await self._create_claims(stateful_set, pod)
            await self._client.create("pods", pod, meta.namespace(stateful_set))
            await self.fit_claims(stateful_set, pod)
        except (StatusError, RetryLater) as error:
            # one that exists is the cache being late, and a namespace that ends takes no event
            if not errors.is_already_exists(error):
                self._tell("Create", stateful_set, pod, error)
            raise
        self._tell("Create", stateful_set, pod)

    async def mend(self, stateful_set: Object, pod: Object) -> None:
        """Give a pod back the labels and claims of its identity, and its claims their owners, where they differ."""
        changed: Object = meta.deepcopy(pod)
        if not self._is_whole(stateful_set, pod):
            try:
                if not identity.has_identity(stateful_set, pod):
                    identity.identify(stateful_set, changed)
                if not identity.has_claims(stateful_set, pod):
                    identity.attach_claims(stateful_set, changed)
                    await self._create_claims(stateful_set, changed)
                await self.fit_claims(stateful_set, changed)
                await self._client.update("pods", changed)
            except (StatusError, RetryLater) as error:
                self._tell("Update", stateful_set, pod, error)
                raise
            self._tell("Update", stateful_set, pod)

    def _is_whole(self, stateful_set: Object, pod: Object) -> bool:
        return (
            identity.has_identity(stateful_set, pod)
            and identity.has_claims(stateful_set, pod)
            and self.claims_fit(stateful_set, pod)
        )

    async def delete(self, stateful_set: Object, pod: Object) -> None:
        try:
            await self._client.delete("pods", meta.name(pod), meta.namespace(pod), uid=meta.uid(pod))
        except StatusError as error:
            if not errors.is_not_found(error):
                self._tell("Delete", stateful_set, pod, error)
            raise
        self._tell("Delete", stateful_set, pod)

    # ------------------------------------------------------------------ claims
    async def create_missing_claims(self, stateful_set: Object, pod: Object) -> None:
        await self._create_claims(stateful_set, pod)
        await self.fit_claims(stateful_set, pod)

    def has_stale_claim(self, stateful_set: Object, pod: Object) -> bool:
        """Whether a claim is still that of the pod's predecessor, with which it will be deleted."""
        return retention.deletes(stateful_set, "whenScaled") and any(
            retention.is_stale(claim, pod) for claim in self._existing(stateful_set, pod)
        )

    def claims_fit(self, stateful_set: Object, pod: Object) -> bool:
        in_range = identity.is_in_range(stateful_set, pod)
        return all(
            retention.owners_fit(stateful_set, pod, claim, in_range=in_range)
            for claim in self._existing(stateful_set, pod)
        )

    async def fit_claims(self, stateful_set: Object, pod: Object) -> None:
        """Make the owners of the pod's claims those of the retention policy."""
        in_range = identity.is_in_range(stateful_set, pod)
        for claim in self._existing(stateful_set, pod):
            if retention.has_conflicting_controller(stateful_set, pod, claim):
                message = (
                    f"PersistentVolumeClaim {meta.name(claim)} has a conflicting OwnerReference that acts as a manging"
                    " controller, the retention policy is ignored for this claim"
                )
                self._recorder.event(stateful_set, "Warning", "ConflictingController", message)
            if not retention.owners_fit(stateful_set, pod, claim, in_range=in_range):
                await self._client.update(CLAIMS, retention.with_owners(stateful_set, pod, claim, in_range=in_range))

    def _existing(self, stateful_set: Object, pod: Object) -> list[Object]:
        wanted = retention.claims(stateful_set, identity.ordinal(pod))
        return [found for found in (self._claims.get(meta.key(claim)) for claim in wanted) if found is not None]

    async def _create_claims(self, stateful_set: Object, pod: Object) -> None:
        """Create what is missing of the pod's claims; RetryLater names all those that could not be had."""
        problems = []
        for claim in retention.claims(stateful_set, identity.ordinal(pod)):
            existing = self._claims.get(meta.key(claim))
            if existing is not None:
                if meta.is_deleting(existing):
                    problems.append(f"pvc {meta.name(claim)} is being deleted")
                continue
            try:
                await self._client.create(CLAIMS, claim)
            except StatusError as error:
                if error.has_cause("NamespaceTerminating"):
                    raise
                problems.append(f"failed to create PVC {meta.name(claim)}: {error.message}")
                if not errors.is_already_exists(error):
                    self._tell_claim(stateful_set, pod, claim, error)
            else:
                self._tell_claim(stateful_set, pod, claim)
        if problems:
            raise RetryLater("; ".join(problems))

    # ------------------------------------------------------------------ events
    def _tell(self, verb: str, stateful_set: Object, pod: Object, error: Exception | None = None) -> None:
        subject = f"{verb} Pod {meta.name(pod)} in StatefulSet {meta.name(stateful_set)}"
        if error is None:
            self._recorder.event(stateful_set, "Normal", f"Successful{verb}", f"{subject} successful")
        else:
            self._fail(verb, stateful_set, f"{subject} failed error: ", error)

    def _tell_claim(self, stateful_set: Object, pod: Object, claim: Object, error: StatusError | None = None) -> None:
        name, place = meta.name(claim), f"Pod {meta.name(pod)} in StatefulSet {meta.name(stateful_set)}"
        if error is None:
            message = f"Create Claim {name} {place} success"
            self._recorder.event(stateful_set, "Normal", "SuccessfulCreate", message)
        else:
            self._fail("Create", stateful_set, f"Create Claim {name} for {place} failed error: ", error)

    def _fail(self, verb: str, stateful_set: Object, text: str, error: Exception) -> None:
        if not (isinstance(error, StatusError) and error.has_cause("NamespaceTerminating")):
            told = error.message if isinstance(error, StatusError) else str(error)
            self._recorder.event(stateful_set, "Warning", f"Failed{verb}", text + told)
