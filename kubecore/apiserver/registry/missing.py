"""What is said of an object that is not there: of some names nothing can be, and upstream says so.

After upstream k8s.io/apiserver pkg/registry/generic/registry/store.go (the key functions: a name is one segment of a
path) and pkg/storage/interfaces.go (PrepareKey: a key has no segment that is a dot or two).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubecore.api import errors
from kubecore.api.quoting import quoted
from kubecore.apiserver.registry.upstream_keys import upstream_key
from kubecore.apiserver.registry.validation.names import path_segment

if TYPE_CHECKING:
    from kubecore.api.scheme import Resource

_DOTS = (".", "..")


def missing(resource: Resource, namespace: str, name: str) -> errors.StatusError:
    """The error for an object that was not found."""
    if wrong := path_segment(name):
        return errors.bad_request(f"Name parameter invalid: {quoted(name)}: {';'.join(wrong)}")
    if namespace in _DOTS and resource.namespaced:
        return _no_key(upstream_key(resource, namespace, name))
    return errors.not_found(resource.group, resource.plural, name)


def may_be(resource: Resource, namespace: str, name: str) -> bool:
    """Whether there could be such an object."""
    return not (path_segment(name) or (namespace in _DOTS and resource.namespaced))


def check_collection(resource: Resource, namespace: str) -> None:
    """Raises what is wrong with a namespace that cannot be, where what is in it is listed, watched or deleted."""
    if namespace in _DOTS and resource.namespaced:
        raise _no_key(upstream_key(resource, namespace))


def _no_key(key: str) -> errors.StatusError:
    return errors.StatusError(500, "", f"invalid key: {quoted(key)}")
