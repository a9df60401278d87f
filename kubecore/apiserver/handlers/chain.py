"""The handler chain: what happens to a request, from top to bottom.

    authenticate      Rust has judged certificates and known tokens; what it could not, the authentication modules do
    impersonate       Impersonate-* headers make the request another user's, if the user may
    authorize         Rust has asked RBAC; what it could not decide, the authorization modes do
    route             resource requests to the registry, others to discovery and OpenAPI
    admit, store      inside the registry: mutating admission, validation, validating admission, storage
    answer            the object, list, Table or Status in the form the client accepts

A request that had to be judged here goes back to Rust once it has been (`Request.resume`), because reads are answered
there; it comes back with its user and the permission in it when it is Python's to answer.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from kubecore.api import errors
from kubecore.apiserver.audit.request_log import LONGEST_ID
from kubecore.apiserver.handlers import negotiation
from kubecore.apiserver.handlers.failing import as_status, released, telling, warned
from kubecore.apiserver.handlers.lease_renewing import LeaseRenewing
from kubecore.apiserver.handlers.paths import check_path, not_for
from kubecore.apiserver.handlers.pod_amending import PodAmending
from kubecore.apiserver.handlers.podwrites import PodBinding
from kubecore.apiserver.handlers.request import Request, Response
from kubecore.apiserver.handlers.writing import Creator
from kubecore.apiserver.registry.missing import check_collection
from kubecore.apiserver.tracing import spans

if TYPE_CHECKING:
    from kubecore import _native
    from kubecore._native import UserInfo
    from kubecore.apiserver.authorization.authorizer import Authorizer
    from kubecore.apiserver.handlers.reading import Reading
    from kubecore.apiserver.handlers.served import Served, ServedResources
    from kubecore.apiserver.handlers.watching import WatchEvent
    from kubecore.apiserver.handlers.writing import Writing

log = logging.getLogger("kubecore.apiserver")

# What is remembered of clients that create.
_MOST_CREATORS, _LONGEST_HEAD = 1024, 1024


class Identify(Protocol):
    """Authentication, impersonation and authorization of what Rust left open."""

    async def __call__(self, request: Request) -> tuple[UserInfo, bool]:
        """The user, and whether he may do it, where that has been asked already. Raises 401, 403."""


# A handler answers with a Response, or with None when it has answered by itself (streams).
Handler = Callable[[Request, "UserInfo", "Served"], Awaitable[Response | None]]
Documents = Callable[[Request, "UserInfo"], Awaitable[Response | None]]


class Delegation(Protocol):
    """What other servers answer."""

    def covers(self, request: Request) -> bool: ...

    def pass_on(self, request: Request, user: UserInfo) -> Awaitable[Response | None]:
        """Of a request that it covers, as a Handler does."""

    def watch(self, request: Request, user: UserInfo) -> AsyncIterator[list[WatchEvent]]:
        """Of a component of this process. Raises StatusError."""


class Handlers:
    """The chain, over the parts that do the work."""

    def __init__(
        self,
        *,
        served: ServedResources,
        identify: Identify,
        reading: Reading,
        writing: Writing,
        extra: Mapping[tuple[str, str, str], Handler],
        documents: Documents,
    ) -> None:
        """`extra` has the handlers of (group resource, subresource, verb) that are not plain CRUD; `documents` answers
        paths that are no resource (discovery, OpenAPI) and None for unknown ones."""
        self._served = served
        self._identify = identify
        self._reading = reading
        self._writing = writing
        self._extra = extra
        self._documents = documents
        self.delegation: Delegation | None = None
        self._creators: dict[bytes, Creator] = {}

    async def handle(self, request: _native.Request) -> None:
        """Answers the request, whatever happens."""
        try:
            if request.authorized is None or request.authenticated is None:
                acting, allowed = await self._identify(request)
                request.resume(acting, authorized=allowed)
                return
            creates = request.verb == "create" and self.delegated(request) is None
            creator = self._known_creator(request) if creates else None
            if creator is not None and (user := request.user) is not None:
                response: Response | None = await creator.create(
                    user, request.body, audit=request.audit, waited=request.waited
                )
            else:
                response = await self.route(request)
        except Exception as error:
            response = self.failure(request, error)
            released(error)
        if response is not None:
            if (span := spans.current()) is not None:
                span.answered(response.status)
            try:
                request.respond(*response)
            except RuntimeError:
                log.debug("%s %s was answered already", request.method, request.path)

    def failure(self, request: Request, error: Exception) -> Response:
        status = as_status(error)
        if status is None:
            number = request.header("audit-id")
            named = {"values": {"audit-ID": number[:LONGEST_ID]}} if number else None
            log.error("%s %s failed", request.method, request.path, exc_info=error, extra=named)
            why = f"{type(error).__name__}: {error}"
            status = errors.internal_error(why)
            if (record := request.audit) is not None:
                record.panicked(why)
        # What is a line of text is no object that the audit could tell of.
        if (record := request.audit) is not None and not status.plain:
            record.responded(status.to_json())
        try:
            return negotiation.error_response(status, request.accept)
        except Exception:
            log.exception("cannot encode a Status for Accept %r", request.accept)
            return Response(status.code, status.to_json())

    def route(self, request: Request) -> Awaitable[Response | None]:
        """The answer of whoever the request is for. Raises StatusError, now or when it is awaited."""
        user = request.user
        if user is None:
            raise errors.unauthorized()
        if (elsewhere := self.delegated(request)) is not None:
            return elsewhere.pass_on(request, user)
        if not request.is_resource:
            return self._document(request, user)
        if request.path.startswith("//"):
            # No root of Kubernetes's, though the parts are those of a resource's path.
            raise errors.no_such_service()
        served = self._served.find(request.api_group, request.api_version, request.resource)
        check_path(request, served)
        answer = self._warning if served.warning else self._dispatched
        return answer(request, user, served)

    async def _warning(self, request: Request, user: UserInfo, served: Served) -> Response | None:
        """The answer of a deprecated version: a refusal says so, too, unless upstream has no route there."""
        try:
            return await self._dispatched(request, user, served)
        except Exception as failure:
            status = as_status(failure)
            about_something = status is not None and (status.details or {}).get("kind")
            if not served.custom and status is not None and status.code in (404, 405, 415) and not about_something:
                raise
            raise warned(failure, [served.warning]) from failure

    def _dispatched(self, request: Request, user: UserInfo, served: Served) -> Awaitable[Response | None]:
        subresource, verb = request.subresource, request.verb
        handler = self._extra.get((served.resource.key, subresource, verb)) or served.special.get((subresource, verb))
        if handler is not None:
            return handler(request, user, served)
        if subresource:
            self._check_subresource(served, subresource, verb)
        elif verb not in served.resource.verbs:
            raise not_for(served, verb)
        if served.resource.namespaced and not request.namespace and verb not in ("list", "watch"):
            raise errors.method_not_allowed()
        if not request.name and verb in ("get", "update", "patch", "delete"):
            raise errors.method_not_allowed()
        if verb in ("list", "watch", "deletecollection"):
            if verb == "watch" and request.method not in ("GET", "HEAD"):
                raise errors.method_not_allowed()
            check_collection(served.resource, request.namespace)
        if verb == "create":
            if request.name and not subresource:
                raise errors.method_not_allowed()
            return self._writing.create(request, user, served)
        if verb == "update":
            return self._writing.update(request, user, served)
        if verb == "patch":
            return self._writing.patch(request, user, served)
        if verb == "delete":
            return self._writing.delete(request, user, served)
        if verb == "deletecollection":
            return self._writing.delete_collection(request, user, served)
        if verb == "get":
            return self._reading.get(request, served)
        if verb == "list":
            return self._reading.list(request, served)
        if verb == "watch":
            return self._watch(request, served)
        raise errors.method_not_allowed()

    def delegated(self, request: Request) -> Delegation | None:
        """Who has it answered, where we do not do so ourselves."""
        found = self.delegation
        return found if found is not None and found.covers(request) else None

    async def _document(self, request: Request, user: UserInfo) -> Response:
        response = await self._documents(request, user)
        if response is None:
            raise self._served.missing(request.path)
        return response

    async def _watch(self, request: Request, served: Served) -> Response | None:
        return self._reading.watch(request, served)

    def creator(self, request: Request) -> Creator | None:
        """Creates objects in the collection of a POST, for who may; None where `route` has to be asked for each, and
        then refuses it maybe."""
        if request.verb != "create" or request.name or request.subresource:
            return None
        served = self._served.find(request.api_group, request.api_version, request.resource)
        special = (served.resource.key, "", "create") in self._extra or ("", "create") in served.special
        if special or "create" not in served.resource.verbs or served.resource.namespaced != bool(request.namespace):
            return None
        with telling([served.warning] if served.warning else ()):
            return Creator(self._writing, request, served)

    def pod_amending(self, authorizer: Authorizer, patch: Request, delete: Request) -> PodAmending:
        return PodAmending(self._writing, authorizer, self._served.find("", "v1", "pods"), patch, delete)

    def pod_binding(self, authorizer: Authorizer, head: Request) -> PodBinding:
        return PodBinding(self._writing, authorizer, self._served.find("", "v1", "pods"), head)

    def lease_renewing(self, authorizer: Authorizer, head: Request) -> LeaseRenewing:
        return LeaseRenewing(self._writing, authorizer, self._served.find("coordination.k8s.io", "v1", "leases"), head)

    def _known_creator(self, request: _native.Request) -> Creator | None:
        """`creator`, remembered: clients create what they create again and again."""
        head = request.head
        creator = self._creators.get(head)
        if creator is None:
            creator = self.creator(request)
            # What custom resources are may change.
            if creator is not None and not creator.served.custom and len(head) <= _LONGEST_HEAD:
                if len(self._creators) >= _MOST_CREATORS:
                    self._creators.clear()
                self._creators[head] = creator
        return creator

    def _check_subresource(self, served: Served, subresource: str, verb: str) -> None:
        """Raises 404 for a subresource the kind lacks, 405 for a verb the subresource lacks."""
        found = served.resource.subresources.get(subresource)
        if found is None:
            raise errors.no_such_path()
        if verb not in found.verbs or verb not in ("get", "update", "patch"):
            raise not_for(served, verb)
