"""Every operation the API has, independent of the OpenAPI version that will describe it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from kubecore.api.scheme import Resource, Scheme, Subresource
from kubecore.apiserver.openapi.definitions import META, Definitions

PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)

MEDIA = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
STREAMS = ("application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch")

# Custom kinds have no protobuf, and upstream does not tell that they can be watched.
CUSTOM_MEDIA = MEDIA[:2]
CUSTOM_PATCH_TYPES = (*PATCH_TYPES[:2], PATCH_TYPES[3])

_LIST = [
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
]
_WRITE = ["dryRun", "fieldManager", "fieldValidation"]
_DELETE = [
    "dryRun",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "orphanDependents",
    "propagationPolicy",
]
_TERMINAL = ["command", "container", "stderr", "stdin", "stdout", "tty"]
_SUBRESOURCE_QUERY = {
    "attach": _TERMINAL[1:],
    "exec": _TERMINAL,
    "log": [
        "container",
        "follow",
        "insecureSkipTLSVerifyBackend",
        "limitBytes",
        "previous",
        "sinceSeconds",
        "stream",
        "tailLines",
        "timestamps",
    ],
    "portforward": ["ports"],
    "proxy": ["path"],
}

# Where it is not the kind that the subresource is of.
_OPTIONS_OF = {"log": "PodLogOptions"}


@dataclass(frozen=True, slots=True)
class Action:
    """What a verb is in OpenAPI: its method, its name in x-kubernetes-action and in operation ids, and which of its
    options the query may have."""

    method: str
    action: str
    word: str
    options: tuple[str, ...]
    query: tuple[str, ...]


_ACTIONS = {
    "list": Action("get", "list", "list", ("ListOptions",), tuple(_LIST)),
    "create": Action("post", "post", "create", ("CreateOptions",), tuple(_WRITE)),
    "deletecollection": Action(
        "delete", "deletecollection", "deleteCollection", ("DeleteOptions", "ListOptions"), (*_DELETE, *_LIST[1:-1])
    ),
    "get": Action("get", "get", "read", ("GetOptions",), ()),
    "update": Action("put", "put", "replace", ("UpdateOptions",), tuple(_WRITE)),
    "patch": Action("patch", "patch", "patch", ("PatchOptions",), (*_WRITE, "force")),
    "delete": Action("delete", "delete", "delete", ("DeleteOptions",), tuple(_DELETE)),
}
_CONNECT_METHODS = {"create": "post", "delete": "delete", "get": "get", "patch": "patch", "update": "put"}
# Methods that are no verbs of their own, and that whatever is behind a proxy is asked by, too.
_PROXY_METHODS = ("head", "options")
# Deleting one answers the object as it was: those whose strategy has `returns_deleted`.
ANSWERED_WHEN_DELETED = frozenset(
    (
        "csidrivers.storage.k8s.io",
        "csinodes.storage.k8s.io",
        "deviceclasses.resource.k8s.io",
        "devicetaintrules.resource.k8s.io",
        "persistentvolumeclaims",
        "persistentvolumes",
        "pods",
        "podtemplates",
        "resourceclaims.resource.k8s.io",
        "resourceclaimtemplates.resource.k8s.io",
        "resourcequotas",
        "resourceslices.resource.k8s.io",
        "serviceaccounts",
        "services",
        "storageclasses.storage.k8s.io",
        "volumeattachments.storage.k8s.io",
        "volumeattributesclasses.storage.k8s.io",
    )
)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. Bodies and results are names of definitions, None for plain text or nothing."""

    path: str
    method: str
    action: str
    operation_id: str
    tag: str
    kind: tuple[str, str, str]
    path_parameters: tuple[str, ...]
    query: tuple[str, ...]
    options: tuple[str, ...]
    """The kinds of options that say what the query's parameters are."""
    body: str | None
    result: str | None
    created: bool
    custom: bool = False
    description: str = ""
    # What the answer comes as, where that is not what objects come as.
    media: tuple[str, ...] = ()

    @property
    def consumed(self) -> tuple[str, ...]:
        """The media types of the body."""
        if self.action != "patch":
            return CUSTOM_MEDIA if self.custom else ("*/*",)
        return CUSTOM_PATCH_TYPES if self.custom else PATCH_TYPES

    @property
    def produced(self) -> tuple[str, ...]:
        """The media types of the answer."""
        if self.media:
            return self.media
        if self.result is None:
            return ("*/*",)
        if self.custom:
            return CUSTOM_MEDIA
        return MEDIA + STREAMS if self.action in ("list", "watch", "watchlist") else MEDIA


def operations(scheme: Scheme, definitions: Definitions, group: str, version: str) -> Iterator[Operation]:
    """The operations of one group version, in order of their paths."""
    found: list[Operation] = []
    for resource in scheme.of_version(group, version):
        found += _of_resource(resource, definitions)
    return iter(sorted(found, key=lambda operation: (operation.path, operation.method)))


def by_path(found: Iterable[Operation]) -> dict[str, list[Operation]]:
    """Operations that come in order of their paths."""
    return {path: list(of_path) for path, of_path in itertools.groupby(found, key=lambda one: one.path)}


def shared_query(of_path: Sequence[Operation]) -> tuple[str, ...]:
    """The query parameters that all operations of a path have, which are told of the path."""
    return tuple(sorted(set.intersection(*(set(operation.query) for operation in of_path))))


def root_path(group: str, version: str) -> str:
    """`/api/v1` or `/apis/apps/v1`."""
    return f"/apis/{group}/{version}" if group else f"/api/{version}"


def _of_resource(resource: Resource, definitions: Definitions) -> Iterator[Operation]:
    root = root_path(resource.group, resource.version)
    scope = "/namespaces/{namespace}" if resource.namespaced else ""
    collection = f"{root}{scope}/{resource.plural}"
    for verb in ("list", "create", "deletecollection"):
        if verb in resource.verbs:
            yield _operation(resource, definitions, verb, collection)
    for verb in ("get", "update", "patch", "delete"):
        if verb in resource.verbs:
            yield _operation(resource, definitions, verb, f"{collection}/{{name}}")
    if resource.namespaced and "list" in resource.verbs:
        yield _operation(resource, definitions, "list", f"{root}/{resource.plural}")
    if "watch" in resource.verbs and not resource.storage_version:
        yield from _watches(resource, root, scope)
    for subresource in resource.subresources.values():
        yield from _of_subresource(resource, subresource, definitions, f"{collection}/{{name}}/{subresource.name}")


def _query(verb: str, *, custom: bool) -> tuple[str, ...]:
    """Upstream has its own way with custom kinds: what is read may be so recent, and a collection is deleted as it is
    listed."""
    if custom and verb in ("get", "deletecollection"):
        return ("pretty", "resourceVersion") if verb == "get" else ("pretty", *_LIST)
    return ("pretty", *_ACTIONS[verb].query)


def _operation(resource: Resource, definitions: Definitions, verb: str, path: str) -> Operation:
    custom = bool(resource.storage_version)
    everywhere = resource.namespaced and "{namespace}" not in path
    action = _ACTIONS[verb]
    scope = "Namespaced" if resource.namespaced and not everywhere else ""
    suffix = "ForAllNamespaces" if everywhere else ""
    group_version = _camel(resource.group or "core", resource.version)
    word, collection = (action.word, "") if verb != "deletecollection" else ("delete", "Collection")
    own = definitions.name_of(resource.group, resource.version, resource.kind)
    lists = definitions.name_of(resource.group, resource.version, resource.list_kind or f"{resource.kind}List")
    status = META + "Status"
    return Operation(
        path=path,
        method=action.method,
        action=action.action,
        operation_id=f"{word}{group_version}{collection}{scope}{resource.kind}{suffix}",
        tag=_tag(resource),
        kind=(resource.group, resource.version, resource.kind),
        path_parameters=_parameters_in(path),
        query=_query(verb, custom=custom),
        options=action.options,
        body=None if custom and verb == "deletecollection" else _body(verb, own),
        result={
            "list": lists,
            "delete": own if resource.key in ANSWERED_WHEN_DELETED else status,
            "deletecollection": status,
        }.get(verb, own),
        created=verb in _CREATING[custom],
        custom=custom,
        description=_described(verb, resource),
    )


def _watches(resource: Resource, root: str, scope: str) -> Iterator[Operation]:
    """Of lists and of single objects, as they were before lists could be asked to be watched."""
    prefix, plural = f"{root}/watch", resource.plural
    name = f"{'Namespaced' if resource.namespaced else ''}{resource.kind}"
    advice = "deprecated: use the 'watch' parameter with a list operation instead"
    of_list = f"watch individual changes to a list of {resource.kind}. {advice}."
    of_one = (
        f"watch changes to an object of kind {resource.kind}. {advice}, filtered to a single item with the "
        "'fieldSelector' parameter."
    )
    places = [
        (f"{prefix}{scope}/{plural}", f"{name}List", of_list),
        (f"{prefix}{scope}/{plural}/{{name}}", name, of_one),
    ]
    if resource.namespaced:
        places.append((f"{prefix}/{plural}", f"{resource.kind}ListForAllNamespaces", of_list))
    for path, suffix, description in places:
        yield Operation(
            path=path,
            method="get",
            action="watch" if description is of_one else "watchlist",
            operation_id=f"watch{_camel(resource.group or 'core', resource.version)}{suffix}",
            tag=_tag(resource),
            kind=(resource.group, resource.version, resource.kind),
            path_parameters=_parameters_in(path),
            query=("pretty", *_LIST),
            options=_ACTIONS["list"].options,
            body=None,
            result=META + "WatchEvent",
            created=False,
            description=description,
        )


# What may answer that it has made something, of built-in kinds and of custom ones.
_CREATING = (("create", "update", "patch"), ("create", "update"))


def _described(verb: str, resource: Resource) -> str:
    kind = resource.kind
    match verb:
        case "list":
            watched = "watch" in resource.verbs and not resource.storage_version
            return f"{'list or watch' if watched else 'list'} objects of kind {kind}"
        case "create":
            return f"create {_with_article(kind)}"
        case "delete":
            return f"delete {_with_article(kind)}"
        case "deletecollection":
            return f"delete collection of {kind}"
    return f"{_SPECIFIED[verb]} the specified {kind}"


_SPECIFIED = {"get": "read", "update": "replace", "patch": "partially update"}


def _with_article(kind: str) -> str:
    """Plurals have none."""
    if kind.endswith("s") and not kind.endswith("ss"):
        return kind
    return f"{'an' if kind[:1] in 'AEIOU' else 'a'} {kind}"


def _body(verb: str, own: str | None) -> str | None:
    match verb:
        case "create" | "update":
            return own
        case "patch":
            return META + "Patch"
        case "delete" | "deletecollection":
            return META + "DeleteOptions"
    return None


def _of_subresource(
    resource: Resource, subresource: Subresource, definitions: Definitions, path: str
) -> Iterator[Operation]:
    own = definitions.name_of(subresource.group, subresource.version, subresource.kind)
    connects = own is None
    extra = _SUBRESOURCE_QUERY.get(subresource.name, [])
    own_options = _OPTIONS_OF.get(subresource.name, subresource.kind)
    paths = [path, path + "/{path}"] if subresource.name == "proxy" else [path]
    group_version = _camel(resource.group or "core", resource.version)
    scope = "Namespaced" if resource.namespaced else ""
    name = f"{scope}{resource.kind}{subresource.name[0].upper()}{subresource.name[1:]}"
    custom = bool(resource.storage_version)
    # Upstream says of all parts of a custom resource that they are of its kind.
    kind = resource if custom else subresource
    methods = {_CONNECT_METHODS[verb]: _ACTIONS[verb] for verb in sorted(subresource.verbs)}
    if subresource.name == "proxy":
        methods |= {method: _ACTIONS["get"] for method in _PROXY_METHODS}
    for method, action in methods.items():
        for place in paths:
            word = f"connect{group_version}{method.capitalize()}" if connects else f"{action.word}{group_version}"
            suffix = "WithPath" if place != path else ""
            yield Operation(
                path=place,
                method=method,
                action="connect" if connects else action.action,
                operation_id=f"{word}{name}{suffix}",
                tag=_tag(resource),
                kind=(kind.group, kind.version, kind.kind),
                path_parameters=_parameters_in(place),
                query=tuple(extra) if connects else (*_query(_VERBS[method], custom=custom), *extra),
                options=(own_options, *action.options) if extra else action.options,
                body=None if connects else _body(_VERBS[method], own),
                result=None if connects or subresource.name == "log" else own,
                created=not connects and method != "get" and not (custom and method == "patch"),
                custom=custom,
                media=("text/plain", *MEDIA) if subresource.name == "log" else (),
                description=_of_part(resource.kind, subresource.name, "" if connects else _VERBS[method], method),
            )


_VERBS = {method: verb for verb, method in _CONNECT_METHODS.items()}


def _of_part(kind: str, name: str, verb: str, method: str) -> str:
    """What an operation of a subresource does; `verb` is empty where it connects."""
    if not verb:
        return f"connect {method.upper()} requests to {name} of {kind}"
    if verb == "create":
        return f"create {name} of {_with_article(kind)}"
    return f"{_SPECIFIED[verb]} {name} of the specified {kind}"


def _parameters_in(path: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\{(\w+)\}", path))


def _tag(resource: Resource) -> str:
    return f"{group_tag(resource.group)}_{resource.version}"


def group_tag(group: str) -> str:
    """`rbac.authorization.k8s.io` → `rbacAuthorization`"""
    first, *rest = (group or "core").removesuffix(".k8s.io").split(".")
    return first + "".join(part.capitalize() for part in rest)


def _camel(group: str, version: str) -> str:
    """`rbac.authorization.k8s.io`, `v1` → `RbacAuthorizationV1`."""
    parts = [*group.removesuffix(".k8s.io").split("."), version]
    return "".join(part[:1].upper() + part[1:] for part in parts)
