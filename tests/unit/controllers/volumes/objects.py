"""Claims, volumes and classes for the tests of what binds, provisions and protects them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kubecore.client.client import Object
from tests.support.fake_api import FakeAPI

CLAIMS = "persistentvolumeclaims"
VOLUMES = "persistentvolumes"
CLASSES = "storageclasses.storage.k8s.io"


def claim(
    name: str = "data", *, size: str = "1Gi", modes: tuple[str, ...] = ("ReadWriteOnce",), **fields: Any
) -> Object:
    """`metadata` and `status` are merged in, other fields go to the spec; as the API leaves a claim it admits."""
    metadata: Object = {"name": name, "namespace": "default", **fields.pop("metadata", {})}
    status = fields.pop("status", {"phase": "Pending"})
    spec = {"accessModes": list(modes), "resources": {"requests": {"storage": size}}, "volumeMode": "Filesystem"}
    return {"metadata": metadata, "spec": {**spec, **fields}, "status": status}


def volume(
    name: str = "v",
    *,
    size: str = "1Gi",
    modes: tuple[str, ...] = ("ReadWriteOnce",),
    policy: str = "Retain",
    **fields: Any,
) -> Object:
    metadata: Object = {"name": name, **fields.pop("metadata", {})}
    status = fields.pop("status", {"phase": "Pending"})
    spec: Object = {
        "capacity": {"storage": size},
        "accessModes": list(modes),
        "persistentVolumeReclaimPolicy": policy,
        "volumeMode": "Filesystem",
    }
    if not {"csi", "nfs"} & fields.keys():
        spec["hostPath"] = {"path": f"/tmp/volumes/{name}"}
    return {"metadata": metadata, "spec": {**spec, **fields}, "status": status}


def storage_class(
    name: str = "standard",
    *,
    provisioner: str = "example.com/disks",
    mode: str = "Immediate",
    default: bool = False,
    **fields: Any,
) -> Object:
    metadata: Object = {"name": name, **fields.pop("metadata", {})}
    if default:
        metadata["annotations"] = {"storageclass.kubernetes.io/is-default-class": "true"}
    return {
        "metadata": metadata,
        "provisioner": provisioner,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": mode,
        **fields,
    }


def reference(to: Object) -> Object:
    """The claimRef of a volume that is bound to the claim."""
    metadata = to["metadata"]
    return {
        "kind": "PersistentVolumeClaim",
        "apiVersion": "v1",
        **{key: metadata[key] for key in ("namespace", "name", "uid", "resourceVersion")},
    }


def pod_with(*claims: str, name: str = "p", **fields: Any) -> Object:
    mounted = [{"name": one, "persistentVolumeClaim": {"claimName": one}} for one in claims]
    status = fields.pop("status", {"phase": "Pending"})
    spec = {"containers": [{"name": "c", "image": "app"}], "volumes": mounted, **fields}
    return {"metadata": {"name": name, "namespace": "default"}, "spec": spec, "status": status}


def phase(api: FakeAPI, resource: str, name: str) -> str:
    found = api.get(resource, name)
    assert found is not None
    return str(found["status"].get("phase", ""))


class Folders:
    """Stands for the host's folders; `refusals` are the errors that the next removals end with."""

    def __init__(self) -> None:
        self.made: list[Path] = []
        self.modes: dict[Path, int] = {}
        self.removed: list[Path] = []
        self._there: set[Path] = set()
        self.refusals: list[OSError] = []

    async def exists(self, path: Path) -> bool:
        return path in self.made

    async def make(self, path: Path, mode: int) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        self.made.append(path)
        self.modes[path] = mode
        self._there.add(path)

    async def remove(self, path: Path) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        self.removed.append(path)
        self._there.discard(path)

    def there(self) -> set[Path]:
        return set(self._there)
