"""Secrets that persistent volumes name, and whose claims these volumes are: the Node mode's way from one to the other.

After upstream plugin/pkg/auth/authorizer/node/graph.go (`AddPV`) and pkg/api/v1/persistentvolume/util.go
(`VisitPVSecretNames`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kubecore.apiserver.registry.codec import loads

if TYPE_CHECKING:
    from kubecore.apiserver.storage.cacher import Cacher

JSON = dict[str, Any]
# Namespace and name.
Key = tuple[str, str]

VOLUMES = "persistentvolumes"
# A Secret without a namespace is in that of the claim where volumes of this type once had no namespace to say.
_IN_THE_CLAIMS = ("cephfs", "flexVolume", "rbd", "scaleIO", "iscsi")
_ELSEWHERE = ("cinder", "storageos")
# Those of a CSI volume that are not for its controller.
_OF_NODES = ("nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef")


class VolumeSecrets:
    """What is known of all volumes is forgotten whenever one of them changes: kubelets seldom ask for such Secrets."""

    def __init__(self, cacher: Cacher) -> None:
        self._cacher = cacher
        self._since = -1
        self._claims: dict[Key, set[Key]] = {}

    def claims(self, secret: Key) -> set[Key]:
        """Those whose volumes name the Secret for nodes to read."""
        if self._cacher.cached(VOLUMES) is None:
            return set()
        changed = self._cacher.changed(VOLUMES)
        if changed != self._since:
            self._since, self._claims = changed, self._read()
        return self._claims.get(secret, set())

    def _read(self) -> dict[Key, set[Key]]:
        found: dict[Key, set[Key]] = {}
        for item in self._cacher.list(VOLUMES).items:
            # Most volumes name none, and are not worth decoding.
            if b"ecret" in item:
                volume = loads(item)
                if (claim := claim_of(volume)) is not None:
                    for secret in secrets_of(volume, claim[0]):
                        found.setdefault(secret, set()).add(claim)
        return found


def claim_of(volume: JSON) -> Key | None:
    """Whose the volume says that it is. What a claim says is its author's word, who may write any volume's name."""
    claim = (volume.get("spec") or {}).get("claimRef")
    return None if claim is None else (claim.get("namespace") or "", claim.get("name") or "")


def secrets_of(volume: JSON, namespace: str) -> Iterator[Key]:
    """Those that nodes read; `namespace` is the claim's."""
    spec = volume.get("spec") or {}
    azure = spec.get("azureFile") or {}
    named = [((azure.get("secretNamespace") or namespace), azure.get("secretName"))]
    for kind in _IN_THE_CLAIMS:
        reference = (spec.get(kind) or {}).get("secretRef") or {}
        named.append((reference.get("namespace") or namespace, reference.get("name")))
    csi = spec.get("csi") or {}
    references = [(spec.get(kind) or {}).get("secretRef") for kind in _ELSEWHERE] + [csi.get(one) for one in _OF_NODES]
    named += [(one.get("namespace") or "", one.get("name")) for one in references if one]
    return ((where, name) for where, name in named if name)
