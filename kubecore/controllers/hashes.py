"""The hashes that controllers put into names and labels, the same that Kubernetes' controllers put there."""

from __future__ import annotations

import orjson

from kubecore import _native
from kubecore.api import meta
from kubecore.api.quoting import escaped_as_go
from kubecore.client.client import Object


def of_template(template: Object, collisions: int | None) -> str:
    """Of a PodTemplateSpec. `collisions` is the status's collisionCount; None, which it is before the first, makes
    another hash than 0. (`pkg/controller/controller_utils.go`, ComputeHash.)
    """
    return meta.safe_encode(str(_native.template_hash(orjson.dumps(template), collisions)))


def of_revision(data: Object, collisions: int) -> str:
    """Of a ControllerRevision's data. (`pkg/controller/history`, HashControllerRevision.)"""
    text = escaped_as_go(orjson.dumps(data, option=orjson.OPT_SORT_KEYS))
    return meta.safe_encode(str(_native.fnv1(text + str(collisions).encode())))
