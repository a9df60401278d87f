"""Which paths of a resource lead anywhere, and with which methods.

Built-in kinds after the routes that upstream's k8s.io/apiserver pkg/endpoints/installer.go puts up, custom ones after
k8s.io/apiextensions-apiserver pkg/apiserver/customresource_handler.go, which has none and looks at what it is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubecore.api import errors
from kubecore.apiserver.handlers.patching import type_of_patch

if TYPE_CHECKING:
    from kubecore.apiserver.handlers.request import Request
    from kubecore.apiserver.handlers.served import Served

_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch"}
_METHODS = frozenset((*_VERBS, "DELETE"))
# No built-in resource answers them, but what is behind a proxy may.
_PASSED_ON = frozenset(("HEAD", "OPTIONS"))
_OF_ONE = frozenset(("get", "update", "patch", "delete"))


def check_path(request: Request, served: Served) -> None:
    """Raises 404 where there is no such path, 405 where it is not for the method, 400 where it lacks a name. What is
    there for a verb is for others to look at."""
    if served.custom:
        _check_custom(request, served)
        return
    resource, subresource = served.resource, request.subresource
    if resource.namespaced and request.name and not request.namespace:
        # Across namespaces there is the collection, and nothing by name.
        raise errors.no_such_path()
    if request.name and not subresource and _OF_ONE.isdisjoint(resource.verbs):
        raise errors.no_such_path()
    if request.method not in _METHODS and not (request.method in _PASSED_ON and subresource == "proxy"):
        unknown = subresource not in ("", *resource.subresources) or _goes_on(request)
        raise errors.no_such_path() if unknown else errors.method_not_allowed()
    if resource.namespaced and not request.namespace and "list" not in resource.verbs:
        # Nothing is there beside what is in namespaces.
        raise errors.no_such_path()
    if not resource.namespaced and _is_within(request, resource.key):
        # Whoever may do everything in a namespace may not therefore reach what is in none.
        raise errors.no_such_path()
    if subresource and subresource != "proxy" and _goes_on(request):
        raise errors.no_such_path()
    if subresource in resource.subresources and not request.name:
        wanted = _VERBS.get(request.method, "")
        known = wanted in resource.subresources[subresource].verbs
        raise errors.bad_request("name must be provided") if known else errors.method_not_allowed()


def _check_custom(request: Request, served: Served) -> None:
    resource, verb = served.resource, request.verb
    if resource.namespaced:
        astray = not request.namespace and verb not in ("list", "watch")
    else:
        astray = _is_within(request, resource.key)
    if astray:
        raise errors.no_such_service()
    if request.subresource not in ("", *resource.subresources):
        raise errors.not_found(resource.group, resource.plural, request.name)
    if request.method not in _METHODS and request.method != "HEAD":
        raise errors.not_supported(resource.group, resource.plural, "")
    if not request.name and verb in ("update", "patch"):
        if verb == "patch":
            type_of_patch(request.content_type, custom=True)
        raise errors.bad_request("name must be provided")


def not_for(served: Served, verb: str) -> errors.StatusError:
    """The 405 for a verb that a resource or a subresource of it lacks."""
    resource = served.resource
    if served.custom or (verb == "watch" and "list" in resource.verbs):
        return errors.not_supported(resource.group, resource.plural, verb)
    return errors.method_not_allowed()


def _is_within(request: Request, resource_key: str) -> bool:
    """Whether the path leads through a namespace. That of a Namespace does not, though it names one."""
    if not request.namespace:
        return False
    return resource_key != "namespaces" or f"/namespaces/{request.namespace}/namespaces" in request.path


def _goes_on(request: Request) -> bool:
    """Whether the path goes on behind the subresource."""
    parts = [request.api_version, request.resource, request.name, request.subresource]
    own = len(parts) + bool(request.api_group) + 1
    if request.namespace and request.resource != "namespaces":
        own += 2
    return request.path.strip("/").count("/") + 1 > own
