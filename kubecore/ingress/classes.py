"""Which Ingresses are ours: by their IngressClass, or by the annotation that was there before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kubecore.api import meta
from kubecore.ingress.rules import BackendRef

Object = Mapping[str, Any]

CONTROLLER = "kubecore.dev/ingress"
CLASS_NAME = "kubecore"
CLASS_ANNOTATION = "kubernetes.io/ingress.class"
DEFAULT_ANNOTATION = "ingressclass.kubernetes.io/is-default-class"
DEFAULT_BACKEND_ANNOTATION = "kubecore.dev/default-backend"
"""Of an IngressClass: `namespace/service:port`, for requests that no Ingress is for."""


def own_class(*, default: bool) -> dict[str, Any]:
    annotations = {DEFAULT_ANNOTATION: "true"} if default else {}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": CLASS_NAME, "annotations": annotations},
        "spec": {"controller": CONTROLLER},
    }


def is_default(found: Object) -> bool:
    return meta.annotations(found).get(DEFAULT_ANNOTATION) == "true"


def is_ours(ingress: Object, classes: Iterable[Object]) -> bool:
    """An Ingress of no class at all is ours while ours is the default: it was made before there was one.

    The annotation names a class of ours, or the one of ours that there always is.
    """
    ours = {meta.name(one): is_default(one) for one in classes if one["spec"].get("controller") == CONTROLLER}
    name = (ingress.get("spec") or {}).get("ingressClassName")
    if name is not None:
        return name in ours
    annotated = meta.annotations(ingress).get(CLASS_ANNOTATION)
    if annotated is not None:
        return annotated in ours or annotated == CLASS_NAME
    return any(ours.values())


def default_backend(classes: Iterable[Object]) -> tuple[BackendRef, str] | None:
    """(backend, class) of the first of our classes, by name, that has one; one that makes no sense is none."""
    for one in sorted(classes, key=meta.name):
        text = meta.annotations(one).get(DEFAULT_BACKEND_ANNOTATION) or ""
        service, _, port = text.rpartition(":")
        if one["spec"].get("controller") == CONTROLLER and service.count("/") == 1 and port:
            return BackendRef(service, int(port) if port.isdecimal() else port), meta.name(one)
    return None
