"""The scale subresource of custom resources: their definitions say where replicas and selector are.

After upstream k8s.io/apiextensions-apiserver pkg/registry/customresource/etcd.go (ScaleREST).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubecore.api import errors
from kubecore.apiserver.handlers.scale import Replicas, make_scale
from kubecore.apiserver.registry.custom import paths

if TYPE_CHECKING:
    from kubecore.api.scheme import Resource
    from kubecore.apiserver.handlers.scale_ownership import Path
    from kubecore.apiserver.registry.custom.definition import Definition, ScalePaths

JSON = dict[str, Any]


class CustomReplicas(Replicas):
    """Those of one version of `definition`, which are at `where`."""

    def __init__(self, definition: Definition, where: ScalePaths) -> None:
        self._where = where
        self._paths: dict[str, Path] = {
            definition.api_version(one.name): ()
            if one.scale is None
            else tuple(paths.steps(one.scale.specReplicasPath))
            for one in definition.versions
        }

    def show(self, obj: JSON) -> JSON:
        where = self._where
        return make_scale(
            obj,
            replicas=_number(obj, where.specReplicasPath),
            current=_number(obj, where.statusReplicasPath),
            selector=_text(obj, where.labelSelectorPath),
        )

    def put(self, obj: JSON, replicas: int) -> None:
        try:
            paths.put(obj, self._where.specReplicasPath, replicas)
        except ValueError as error:
            raise errors.internal_error(error) from None

    def path(self, served: Resource, api_version: str) -> Path | None:
        return self._paths.get(api_version)

    def check_present(self, obj: JSON) -> None:
        if paths.find(obj, self._where.specReplicasPath) is None:
            raise errors.internal_error(f'the spec replicas field "{self._where.specReplicasPath}" does not exist')


def _number(obj: JSON, path: str) -> int:
    found = paths.find(obj, path)
    return found if isinstance(found, int) and not isinstance(found, bool) else 0


def _text(obj: JSON, path: str) -> str:
    found = paths.find(obj, path) if path else ""
    return found if isinstance(found, str) else ""
