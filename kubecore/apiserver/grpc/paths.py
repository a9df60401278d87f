"""Requests as the REST API names them: paths and query parameters."""

from __future__ import annotations

from urllib.parse import quote

from kubecore.api import errors
from kubecore.api.v1pb import objects_pb2 as pb


def path_of(resource: pb.Resource, namespace: str, name: str = "") -> str:
    """The path of a collection, an object or a subresource. Raises StatusError (400) for a request without them,
    and for a subresource of no object."""
    if not resource.version or not resource.resource:
        raise errors.bad_request("resource.version and resource.resource must be set")
    if resource.subresource and not name:
        # Without this the request would be one to the collection: a token asked for would make a service account.
        raise errors.bad_request("a subresource is one of an object: name must be set, and none are listed or watched")
    parts = ["/apis", resource.group, resource.version] if resource.group else ["/api", resource.version]
    if namespace:
        parts += ["namespaces", namespace]
    parts.append(resource.resource)
    if name:
        parts.append(name)
        if resource.subresource:
            parts.append(resource.subresource)
    return "/".join([parts[0], *(quote(part, safe="") for part in parts[1:])])


def required(name: str) -> str:
    """Raises StatusError (400) when a request names no object."""
    if not name:
        raise errors.bad_request("name must be set")
    return name


def write_query(options: pb.WriteOptions, **more: str) -> dict[str, str]:
    query = {key: value for key, value in more.items() if value}
    if options.dry_run:
        query["dryRun"] = "All"
    if options.field_manager:
        query["fieldManager"] = options.field_manager
    if options.field_validation:
        query["fieldValidation"] = options.field_validation
    return query


def list_query(request: pb.ListRequest, limit: int, token: str) -> dict[str, str]:
    query = {"limit": str(limit)}
    if request.label_selector:
        query["labelSelector"] = request.label_selector
    if request.field_selector:
        query["fieldSelector"] = request.field_selector
    if token:
        query["continue"] = token
        return query
    if request.resource_version:
        query["resourceVersion"] = request.resource_version
    if request.resource_version_match:
        query["resourceVersionMatch"] = request.resource_version_match
    return query


def watch_query(request: pb.WatchRequest) -> dict[str, str]:
    query = {"watch": "true"}
    if request.label_selector:
        query["labelSelector"] = request.label_selector
    if request.field_selector:
        query["fieldSelector"] = request.field_selector
    if request.resource_version:
        query["resourceVersion"] = request.resource_version
    if request.allow_bookmarks or request.send_initial_events:
        query["allowWatchBookmarks"] = "true"
    if request.send_initial_events:
        query["sendInitialEvents"] = "true"
        query["resourceVersionMatch"] = "NotOlderThan"
    if request.timeout_seconds:
        query["timeoutSeconds"] = str(request.timeout_seconds)
    return query
