"""Has CSI volumes attached to the nodes whose pods use them, and detached when none does any more.

What attaches is the driver's own attacher; it is told by VolumeAttachments, and nodes are told by
`status.volumesAttached`. Volumes of other kinds need no attaching here. (kubernetes
`pkg/controller/volume/attachdetach` and `pkg/volume/csi/csi_attacher.go`.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from kubecore.api import errors, meta
from kubecore.api import persistent_volumes as volumes
from kubecore.api.errors import StatusError
from kubecore.client.client import Object
from kubecore.client.informer import Of
from kubecore.controllers import conditions
from kubecore.controllers.base import Controller, ControllerContext
from kubecore.controllers.volumes.writes import CLAIMS, VOLUMES

ATTACHMENTS = "volumeattachments.storage.k8s.io"
_DRIVERS = "csidrivers.storage.k8s.io"
_BY_NODE, _BY_VOLUME = "attach-detach-node", "attach-detach-volume"
_MANAGED = "volumes.kubernetes.io/controller-managed-attach-detach"
_OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
_UNMOUNT_SECONDS = 360.0
_MANY = {"ReadOnlyMany", "ReadWriteMany"}


class AttachDetachController(Controller):
    """Keys are nodes."""

    name = "persistentvolume-attach-detach-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._nodes = self.informer("nodes")
        self._pods = self.informer("pods")
        self._claims = self.informer(CLAIMS)
        self._volumes = self.informer(VOLUMES)
        self._drivers = self.informer(_DRIVERS)
        self._attachments = self.informer(ATTACHMENTS)
        self._recorder = context.recorder("attachdetach-controller")
        self._pods.add_index(_BY_NODE, _node_of_pod, of=Of.SPEC)
        self._pods.add_index(volumes.PODS_BY_CLAIM, volumes.claim_keys_of_pod, of=Of.SPEC)
        self._attachments.add_index(_BY_NODE, lambda one: (one["spec"]["nodeName"],))
        self._attachments.add_index(_BY_VOLUME, _volume_of)
        self._unwanted_since: dict[str, float] = {}
        """Name of an attachment → since when no pod needs it."""
        self._told: dict[str, str] = {}
        """Name of an attachment, of one that cannot be made too → what its pods were told last."""
        self._listen()

    def _listen(self) -> None:
        self.enqueue_on_change(self._pods, _node_of_pod)
        self.enqueue_on_change(self._attachments, self._nodes_of_attachment)
        self.enqueue_on_change(self._claims, lambda one: self._nodes_of_claim(meta.key(one)))
        self.enqueue_on_change(self._volumes, self._nodes_of_volume)
        self.enqueue_on_change(self._drivers, self._nodes_of_driver)
        self._nodes.add_handler(self.enqueue, self._node_updated)
        self._attachments.add_handler(on_delete=self._attachment_gone)

    def _attachment_gone(self, attachment: Object) -> None:
        self._told.pop(meta.name(attachment), None)

    async def started(self) -> None:
        """What was told before us is not told again."""
        self._told = {meta.name(one): _outcome(one) for one in self._attachments.list()}

    def _node_updated(self, old: Object, new: Object) -> None:
        """Only what holds up detaching; heartbeats do not matter."""
        if _node_facts(old) != _node_facts(new):
            self.enqueue(new)

    def _nodes_of_claim(self, key: str) -> set[str]:
        return {node for pod in self._pods.by_index(volumes.PODS_BY_CLAIM, key) for node in _node_of_pod(pod)}

    def _nodes_of_volume(self, volume: Object) -> set[str]:
        reference = volume["spec"].get("claimRef") or {}
        return self._nodes_of_claim(meta.make_key(reference.get("namespace", ""), reference.get("name", "")))

    def _nodes_of_attachment(self, attachment: Object) -> set[str]:
        """Its own, and those that may wait for it to go."""
        names = {attachment["spec"]["nodeName"]}
        for name in _volume_of(attachment):
            volume = self._volumes.get(name)
            names |= self._nodes_of_volume(volume) if volume is not None else set()
        return names

    def _nodes_of_driver(self, driver: Object) -> set[str]:
        of_driver = (one for one in self._volumes.list() if _driver(one) == meta.name(driver))
        return {node for volume in of_driver for node in self._nodes_of_volume(volume)}

    # ------------------------------------------------------------------ syncing
    async def sync(self, key: str) -> float | None:
        node = self._nodes.get(key)
        if node is not None and not _is_managed(node):
            return None
        wanted: dict[str, tuple[Object, list[Object]]] = {}
        for volume, pod in self._wanted(key) if node else ():
            wanted.setdefault(attachment_name(volume, key), (volume, []))[1].append(pod)
        present = {meta.name(one): one for one in self._attachments.by_index(_BY_NODE, key) if _is_ours(one)}
        unwanted = [one for name, one in present.items() if name not in wanted]
        for name in present.keys() & wanted.keys():
            self._unwanted_since.pop(name, None)
        leaving, again = self._leaving(node, unwanted)
        if node is not None:
            staying = [one for one in present.values() if one not in leaving]
            await self._report(node, staying)
        for one in leaving:
            await self._detach(one)
        for name, (volume, users) in wanted.items():
            if name not in present:
                await self._attach(name, volume, users, key)
            else:
                self._tell(present[name], volume, users)
        return again

    def _wanted(self, node: str) -> Iterator[tuple[Object, Object]]:
        """CSI volumes that a pod of the node uses and whose driver attaches, with the pod."""
        for pod in self._pods.by_index(_BY_NODE, node):
            for key in () if volumes.is_terminated(pod) else volumes.claim_keys_of_pod(pod):
                claim = self._claims.get(key)
                name = claim["spec"].get("volumeName") if claim is not None else None
                volume = self._volumes.get(name) if name else None
                if claim is None or volume is None or not volumes.is_bound_to(volume, claim):
                    continue
                if (driver := _driver(volume)) and self._attaches(driver):
                    yield volume, pod

    def _attaches(self, driver: str) -> bool:
        known = self._drivers.get(driver)
        return known is None or (known.get("spec") or {}).get("attachRequired") is not False

    def _leaving(self, node: Object | None, unwanted: Iterable[Object]) -> tuple[list[Object], float | None]:
        """Which attachments may go now, and when to look again at those that may not."""
        leaving, again = [], None
        in_use = set((node.get("status") or {}).get("volumesInUse") or ()) if node is not None else set()
        for one in unwanted:
            since = self._unwanted_since.setdefault(meta.name(one), self.clock.monotonic())
            left = since + _UNMOUNT_SECONDS - self.clock.monotonic()
            if node is None or self._unique_name(one) not in in_use or _is_out_of_service(node):
                leaving.append(one)
            elif conditions.is_true(node, "Ready"):
                continue
            elif left <= 0:
                # whatever the node still does with it, it has been silent for too long
                leaving.append(one)
            else:
                again = left if again is None else min(again, left)
        return leaving, again

    # ------------------------------------------------------------------ writing
    async def _report(self, node: Object, attachments: Iterable[Object]) -> None:
        """Nodes mount only what they are told is attached, and are told before it is detached."""
        names = sorted(
            name
            for one in attachments
            if (one.get("status") or {}).get("attached") and (name := self._unique_name(one))
        )
        told = (node.get("status") or {}).get("volumesAttached") or []
        others = [one for one in told if not one["name"].startswith("kubernetes.io/csi/")]
        attached = [*others, *({"name": name, "devicePath": ""} for name in names)]
        if attached != told:
            patch = {"status": {"volumesAttached": attached}}
            await self.client.patch("nodes", meta.name(node), patch, patch_type="merge", subresource="status")

    async def _detach(self, attachment: Object) -> None:
        self._unwanted_since.pop(meta.name(attachment), None)
        if meta.is_deleting(attachment):
            return
        try:
            await self.client.delete(ATTACHMENTS, meta.name(attachment), uid=meta.uid(attachment))
        except StatusError as error:
            if not errors.is_not_found(error):
                raise

    async def _attach(self, name: str, volume: Object, users: list[Object], node: str) -> None:
        elsewhere = sorted(
            one["spec"]["nodeName"]
            for one in self._attachments.by_index(_BY_VOLUME, meta.name(volume))
            if one["spec"]["nodeName"] != node
        )
        if elsewhere and not _MANY & set(volume["spec"].get("accessModes") or ()):
            self._tell_of_another(name, volume, users, elsewhere)
            return
        spec = {
            "attacher": _driver(volume),
            "nodeName": node,
            "source": {"persistentVolumeName": meta.name(volume)},
        }
        try:
            await self.client.create(ATTACHMENTS, {"metadata": {"name": name}, "spec": spec})
        except StatusError as error:
            if not errors.is_already_exists(error):
                raise

    def _tell_of_another(self, name: str, volume: Object, waiting: list[Object], nodes: list[str]) -> None:
        reference = volume["spec"].get("claimRef") or {}
        key = meta.make_key(reference.get("namespace", ""), reference.get("name", ""))
        users = [
            meta.name(one)
            for one in self._pods.by_index(volumes.PODS_BY_CLAIM, key)
            if one["spec"].get("nodeName") in nodes and not volumes.is_terminated(one)
        ]
        why = "Volume is already exclusively attached to one node and can't be attached to another"
        if users:
            why = f"Volume is already used by pod(s) {', '.join(sorted(users))}"
        told = f'Multi-Attach error for volume "{meta.name(volume)}" {why}'
        if self._told.get(name) != told:
            self._told[name] = told
            for pod in waiting:
                self._recorder.event(pod, "Warning", "FailedAttachVolume", told)

    def _tell(self, attachment: Object, volume: Object, users: list[Object]) -> None:
        """What became of it, once, to the pods that wait."""
        name, outcome = meta.name(attachment), _outcome(attachment)
        if self._told.get(name, "") == outcome:
            return
        self._told[name] = outcome
        status = attachment.get("status") or {}
        for pod in users:
            if (pod.get("status") or {}).get("phase", "Pending") != "Pending":
                continue
            if status.get("attached"):
                told = f'AttachVolume.Attach succeeded for volume "{meta.name(volume)}" '
                self._recorder.event(pod, "Normal", "SuccessfulAttachVolume", told)
            elif error := (status.get("attachError") or {}).get("message"):
                told = f'AttachVolume.Attach failed for volume "{meta.name(volume)}" : {error}'
                self._recorder.event(pod, "Warning", "FailedAttachVolume", told)

    def _unique_name(self, attachment: Object) -> str:
        """How nodes name the volume, "" when it is gone."""
        for name in _volume_of(attachment):
            volume = self._volumes.get(name)
            if volume is not None and (source := volume["spec"].get("csi")):
                return f"kubernetes.io/csi/{source['driver']}^{source['volumeHandle']}"
        return ""


def _outcome(attachment: Object) -> str:
    """What there is to tell of it; the same failure at another time is another try."""
    status = attachment.get("status") or {}
    error = status.get("attachError") or {}
    return "attached" if status.get("attached") else f"{error.get('time', '')} {error.get('message', '')}".strip()


def attachment_name(volume: Object, node: str) -> str:
    source = volume["spec"]["csi"]
    digest = hashlib.sha256(f"{source['volumeHandle']}{source['driver']}{node}".encode()).hexdigest()
    return f"csi-{digest}"


def _driver(volume: Object) -> str:
    return (volume["spec"].get("csi") or {}).get("driver") or ""


def _node_of_pod(pod: Object) -> list[str]:
    """Index: the node of a pod that has claims."""
    node = pod["spec"].get("nodeName")
    return [node] if node and volumes.has_claims(pod) else []


def _volume_of(attachment: Object) -> list[str]:
    name = (attachment["spec"].get("source") or {}).get("persistentVolumeName")
    return [name] if name else []


def _is_ours(attachment: Object) -> bool:
    """Made for a volume, under the name that Kubernetes gives it."""
    return bool(_volume_of(attachment)) and meta.name(attachment).startswith("csi-")


def _is_managed(node: Object) -> bool:
    """Whether its kubelet leaves attaching to us."""
    return _MANAGED in meta.annotations(node)


def _is_out_of_service(node: Object) -> bool:
    return any(taint["key"] == _OUT_OF_SERVICE for taint in node["spec"].get("taints") or ())


def _node_facts(node: Object) -> tuple[object, ...]:
    status = node.get("status") or {}
    reported = (status.get("volumesInUse"), status.get("volumesAttached"))
    return (*reported, conditions.is_true(node, "Ready"), _is_out_of_service(node), _is_managed(node))
