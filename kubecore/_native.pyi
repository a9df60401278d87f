# Types of the Rust extension. Held true by stubtest.
from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from contextvars import Context
from ipaddress import IPv4Address, IPv6Address
from os import PathLike
from typing import Any, Generic, Literal, TypeVar, final

from kubecore.apiserver.storage.interface import Event, EventSink, Page, Stored, Template

_T = TypeVar("_T")

__version__: str
OPTIMISED: bool
"""Whether this is a release build."""

# --- admission
@final
class AdmissionExpressions:
    """Expressions (CEL) of one policy or webhook, checked but not evaluated."""

    def __new__(cls, *, params: bool, composed: bool) -> AdmissionExpressions:
        """`params`: there are parameters; `composed`: the policy can have variables."""
    def define(self, name: str, expression: str) -> str | None:
        """Defines a variable, also a faulty one, for the expressions after it: what is wrong with it, or None."""
    def check(self, expression: str, purpose: str) -> str | None:
        """What is wrong with an expression, or None.

        `purpose` is "condition", "validation", "message", "annotation", "apply" or "patch"; ValueError for others.
        """

@final
class AdmissionNamespace:
    """A namespace as expressions see it, from JSON. ValueError for what is none."""

    def __new__(cls, body: bytes) -> AdmissionNamespace: ...

@final
class AdmissionInputs:
    """What one request brings for expressions, as JSON, parsed once; None is null. `request` is an AdmissionRequest
    without objects. ValueError for what is no JSON."""

    def __new__(
        cls, *, object: bytes | None, old: bytes | None, request: bytes, namespace: AdmissionNamespace | None
    ) -> AdmissionInputs: ...

@final
class AdmissionRules:
    """Expressions (CEL) of one policy or webhook, compiled once, to judge many requests."""

    def __new__(
        cls,
        expressions: list[tuple[str, str]],
        *,
        params: bool,
        variables: list[tuple[str, str]] | None = None,
    ) -> AdmissionRules:
        """`expressions` as (purpose, expression), purposes as of `AdmissionExpressions.check`; `variables` as (name,
        expression) in order, None where there can be none. Faulty ones fail when they are evaluated."""
    @property
    def faults(self) -> list[str]:
        """What is wrong with the expressions that are faulty."""
    def evaluate(
        self,
        inputs: AdmissionInputs,
        judge: Callable[
            [tuple[str, str] | None, tuple[str, str | None, str, str, str, str, str, str, str]],
            tuple[bool, str, str | None],
        ],
        *,
        budget: int,
        params: bytes | None = None,
        only: list[int] | None = None,
    ) -> tuple[list[tuple[bool | str | bytes | None, str | None]], int]:
        """What all expressions came to, or those at these positions, as (value, error), and what is left of the budget.
        Values of "apply" and "patch" are JSON. ValueError when the budget does not do.

        `judge` is asked what the service account (namespace, name), or who makes the request, may: verb, path of what is
        no resource, group, resource, subresource, namespace, name, field selector, label selector. It answers whether
        that is allowed, a reason and an error.
        """
    def hold(
        self,
        inputs: AdmissionInputs,
        judge: Callable[
            [tuple[str, str] | None, tuple[str, str | None, str, str, str, str, str, str, str]],
            tuple[bool, str, str | None],
        ],
        *,
        budget: int,
        only: list[int],
    ) -> bool:
        """Whether `evaluate` would find, without params, nothing but true."""

@final
class IdentityExpression:
    """An expression about `claims` of a token, a `user` whom they were mapped to, or a `request` for a review."""

    def __new__(cls, about: str, source: str, *, condition: bool) -> IdentityExpression:
        """`condition`: it must come to true or false. ValueError with what is wrong with it."""
    def selects(self, field: str) -> bool:
        """Whether it looks at this field of its variable by name."""
    def evaluate(self, value: bytes) -> Any:
        """Of a variable as JSON: a bool, str, list[str], None, or NotImplemented for anything else. ValueError with why
        it comes to nothing."""

@final
class AdmissionType:
    """The type of a kind's objects, as expressions see them. Immutable."""

    @staticmethod
    def of_kind(schemas: Schemas, kind: str) -> AdmissionType:
        """Of a built-in kind, as in "apps/v1/Deployment"; KeyError for others."""
    @staticmethod
    def of_schema(schema: bytes, name: str) -> AdmissionType:
        """Of an openAPIV3Schema as JSON; ValueError for what is none."""
    def faults(
        self, expressions: list[str], *, variables: list[tuple[str, str]], params: AdmissionType | None = None
    ) -> list[str | None]:
        """What is wrong with each expression of a policy for these objects, with these parameters; None for nothing."""

def check_device_selector(expression: str) -> str | None:
    """What is wrong with an expression that selects devices, or None."""

def is_cel_identifier(name: str) -> bool:
    """Whether expressions can name a variable so."""

# --- balance
def schedulers() -> list[str]:
    """The names `Balancer.put_service` takes: IPVS's rr, wrr, lc, wlc, sh, dh, sed, nq, lblc, mh, fo, ovf."""

@final
class Connection:
    """A counted connection; it ends with `close` or when it is garbage."""

    @property
    def address(self) -> str: ...
    @property
    def port(self) -> int: ...
    def closing(self) -> None:
        """One side has finished: it counts as inactive from here on."""
    def close(self, *, now: float = 0.0) -> None:
        """A persistent client is remembered at least this long: its time-out runs from its last connect, but not out."""

@final
class Balancer:
    """Virtual services and their destinations: IPVS in user space. Thread-safe.

    A service is named by (protocol, address, port), protocol "TCP", "UDP" or "SCTP", or by ("FWM", "", mark) for all
    that has this firewall mark. What it does on its own: pick, count, remember clients and connections; carrying bytes
    is left to `Forwarder` or the caller. Times (`now`) are seconds of any monotonic clock, the same one in all calls.
    Raises ValueError for what cannot be parsed and KeyError for a service that does not exist.

        balancer = Balancer()
        balancer.put_service("TCP", "10.96.0.1", 80, scheduler="wlc")
        balancer.set_destinations("TCP", "10.96.0.1", 80, [("10.0.0.1", 8080, 1), ("10.0.0.2", 8080, 3)])
        connection = balancer.connect("TCP", "10.96.0.1", 80, "10.0.0.9")
        print(connection.address, connection.port)
        connection.close()
    """

    def __new__(cls) -> Balancer: ...
    def put_service(
        self,
        protocol: str,
        address: str,
        port: int,
        *,
        scheduler: str = "rr",
        persistence_seconds: float | None = None,
        persistence_prefix: int | None = None,
        expire_quiescent: bool = False,
        hash_port: bool = False,
        hash_fallback: bool = False,
    ) -> None:
        """Make a service, or change the options of an existing one; its destinations stay.

        Clients of a service with persistence stay with their destination; `persistence_prefix` is how many leading bits
        of their addresses tell them apart (all). With `expire_quiescent` (the kernel's expire_quiescent_template) they do
        not come back to one of weight 0. `hash_port` and `hash_fallback` are ipvsadm's sh-port and sh-fallback,
        for sh and mh: the client's port counts, and the clients of a destination that is unavailable go to others.
        """
    def remove_service(self, protocol: str, address: str, port: int) -> bool: ...
    def set_destinations(
        self,
        protocol: str,
        address: str,
        port: int,
        destinations: Sequence[tuple[str, int, int] | tuple[str, int, int, int, int]],
    ) -> tuple[int, int, int]:
        """(address, port, weight) each, weight 0-65535, 0 drains; returns how many were (added, changed, removed).

        Two more numbers are thresholds: with as many connections as the upper one a destination gets no more until it
        has fewer than the lower one (0: than three quarters of the upper). Port 0 is the port the client asked for.
        Destinations that stay keep their counts, and so does one that comes back while it still has connections. As in
        IPVS the one added last stands first in the rotation.
        """
    def pick(self, protocol: str, address: str, port: int, client: str, client_port: int = 0) -> tuple[str, int] | None:
        """What the scheduler gives next, uncounted and without persistence."""
    def connect(
        self, protocol: str, address: str, port: int, client: str, client_port: int = 0, *, now: float = 0.0
    ) -> Connection | None:
        """A counted connection; None when no destination is available."""
    def estimate(self, now: float) -> None:
        """Have the rates reckoned anew; to be called every two seconds, by whoever wants them: the proxy does not."""
    def services(self, now: float | None = None) -> list[dict[str, Any]]:
        """protocol, address, port (or mark), scheduler, persistence_seconds, refused and destinations of each; a
        destination has address, port, weight, active, inactive, overloaded. One that was taken out is among them, with
        weight 0, while connections to it are open. Both have connections, packets_in, packets_out, bytes_in, bytes_out
        ("in" is from clients), and the same once more in per_second.

        Connections that a `Forwarder` has closed are inactive ones for as long as IPVS remembers those (TCP 120 s, 10 s
        after a reset, UDP 300 s): until a time that `now`, or the next connection, has reached."""
    def __len__(self) -> int: ...

@final
class ConnectionTable:
    """The connection table of a balancer, for who sees packets rather than connections: what IPVS does in its hooks.

    The connections that a `Forwarder` of the same balancer carries are in it, too, as long as they last. Those made by
    `Balancer.connect` are not. Thread-safe, look-ups take no lock.
    """

    def __new__(cls, balancer: Balancer) -> ConnectionTable: ...
    def forward(
        self,
        protocol: str,
        client: tuple[str, int],
        target: tuple[str, int],
        *,
        now: float,
        flags: str = "",
        reply: bool = False,
        mark: int = 0,
        length: int = 0,
    ) -> tuple[str, tuple[str, int] | None]:
        """What becomes of a packet between `client` and the `target` it asked for, `reply` if it goes to the client.

        `flags` are TCP's as tcpdump writes them ("S", "S.", "F.", "R", "."). One of
        - ("carry", destination): it belongs to a connection, or begins one, for which a destination was picked;
        - ("refuse", None): it would begin one, but no destination is available;
        - ("drop", None): its connection's destination has been removed;
        - ("pass", None): it is no service's.
        """
    def connections(
        self, now: float
    ) -> list[tuple[str, tuple[str, int], tuple[str, int], tuple[str, int], str, float]]:
        """(protocol, client, target, destination, state, seconds until it is forgotten) of each, in no order. One that
        a Forwarder carries is never forgotten: infinity."""
    def expire(self, now: float) -> int:
        """Forget the connections and clients whose time is up; returns how many connections are left."""
    def set_timeouts(self, *, tcp: float | None = None, tcp_fin: float | None = None, udp: float | None = None) -> None:
        """Seconds without packets after which a connection is forgotten (900, 120, 300), for packets to come."""

# --- cache
class NativeStatus(Exception):
    """A Status from the Rust side; `kubecore.api.errors.StatusError` is made of it."""

    code: int
    reason: str
    message: str
    body: bytes
    """The whole Status object as JSON."""

@final
class Listing:
    @property
    def revision(self) -> int: ...
    @property
    def items(self) -> list[bytes]: ...
    @property
    def next(self) -> str | None:
        """The continue token of the next page."""
    @property
    def remaining(self) -> int | None: ...

@final
class LabelSelector:
    @staticmethod
    def parse(selector: str) -> LabelSelector:
        """ValueError in the words of labels.Parse."""
    @staticmethod
    def from_label_selector(selector: Mapping[str, object] | None) -> LabelSelector:
        """A metav1.LabelSelector object: None selects nothing, an empty one everything. ValueError."""
    def matches(self, labels: Mapping[str, str] | None) -> bool: ...
    def requirements(self) -> list[tuple[str, str, list[str]]]:
        """(key, operator, values) each; In, NotIn, Exists, DoesNotExist, Gt or Lt."""
    @property
    def empty(self) -> bool:
        """Selects everything."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class FieldSelector:
    @staticmethod
    def parse(selector: str) -> FieldSelector:
        """ValueError in the words of fields.ParseSelector."""
    def matches(self, fields: Mapping[str, str]) -> bool: ...
    def requirements(self) -> list[tuple[str, str, str]]:
        """(field, "=" or "!=", value) each."""
    @property
    def empty(self) -> bool: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Changes:
    """The changes of several resources, of which each write is one before it is answered."""

    @property
    def revision(self) -> int:
        """Of the last one, 0 when there was none since the start."""

@final
class WatchCache:
    """Every stored object as JSON bytes, with the latest events of each resource: those that upstream's watch cache has
    (the hundred newest, and recent ones), or `history`. Thread-safe; releases the GIL."""

    def __new__(cls, *, history: int | None = None, clock: Clock | None = None) -> WatchCache: ...
    def register(
        self,
        key: str,
        group: str,
        plural: str,
        storage_version: str,
        kind: str,
        namespaced: bool,
        versions: Sequence[str],
        selectable_fields: Sequence[tuple[str, str]],
        *,
        list_kind: str = ...,
        custom: bool = False,
        empty: Sequence[tuple[str, bytes]] = ...,
    ) -> int:
        """Returns the resource's number. An empty `list_kind` is the kind and "List". Selectable fields are (label, JSON pointer); a pointer may be several
        alternatives joined by "|", the first that is there and not empty counts, and end in "=default". `empty` is, by
        API version, how an empty object goes on after its metadata: `,"spec":{}`."""
    def unregister(self, resource: int) -> None: ...
    def load(self, resource: int, items: Sequence[tuple[str, int, bytes]]) -> None:
        """The initial fill: ("namespace/name" or "name", revision, object)."""
    def replay(
        self, events: Sequence[tuple[int, int, str, int, bytes]], previous: Sequence[bytes | None] | None = None
    ) -> None:
        """After `load`: refill the history from the log, oldest first. `previous[i]` is the object as it was before
        event i, b"" when there was none, None when it is not known (compacted away)."""
    def publish(self, revision: int, events: Sequence[tuple[int, int, str, int, bytes]]) -> None:
        """(resource, 0 put or 1 delete, key, revision, object) in order of revision; everything up to `revision` is
        then known. A delete carries the last object. metadata.resourceVersion is made to agree with the revision."""
    def progress(self, revision: int) -> None: ...
    def compacted(self, revision: int) -> None: ...
    @property
    def revision(self) -> int: ...
    def get(self, resource: int, namespace: str, name: str) -> tuple[int, bytes] | None: ...
    def changed(self, resource: int) -> int:
        """The revision of the resource's last change, 0 when there was none since the start."""
    def changes(self, resources: list[int]) -> Changes: ...
    def list(
        self,
        resource: int,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        start: str | None = None,
        at: int | None = None,
    ) -> Listing:
        """`start` is a continue token, `at` an exact revision. NativeStatus: 400, 410 Expired, 504 Timeout."""
    def query(self, resource: int, query: str, namespace: str | None = None, name: str | None = None) -> Listing:
        """A list by the query string of its request; also 422 for options that do not go together."""
    def list_body(
        self,
        resource: int,
        query: str,
        namespace: str | None = None,
        name: str | None = None,
        *,
        version: str | None = None,
        metadata_only: bool = False,
    ) -> bytes:
        """The JSON that answers a list's request: in a served version, or as PartialObjectMetadataList."""
    def count(self, resource: int, namespace: str | None = None) -> int:
        """Objects in a namespace, or all."""
    def subscriptions(self) -> Subscriptions: ...

@final
class Subscriptions:
    """The watches of one consumer: one eventfd that is readable while there is something to drain."""

    def fileno(self) -> int: ...
    def watch(
        self,
        resource: int,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        revision: int = 0,
        *,
        bookmarks: bool = False,
        initial: bool = False,
    ) -> int:
        """The watch's number. `initial`: first what there is, as ADDED, then a BOOKMARK annotated
        k8s.io/initial-events-end. NativeStatus for bad selectors."""
    def watch_query(self, resource: int, query: str, namespace: str | None = None, name: str | None = None) -> int:
        """A watch by the query string of its request; NativeStatus 400, 422, 504."""
    def cancel(self, watch: int) -> None:
        """KeyError when it has ended already."""
    def bookmark(self) -> None:
        """Make a BOOKMARK for each watch that wants them and has something new to learn by it; call it every minute."""
    def drain(self, limit: int = 256) -> list[tuple[int, str, int, bytes]]:
        """(watch, ADDED, MODIFIED, DELETED, BOOKMARK or ERROR, revision, object). After an ERROR the watch is gone."""
    def close(self) -> None: ...

# --- clock
@final
class Clock:
    """The clock the Rust side reads; `kubecore.clock.native_clock` hands it out."""

    def __new__(cls) -> Clock: ...
    @staticmethod
    def virtual(unix_seconds: float) -> Clock: ...
    def advance(self, seconds: float) -> None: ...
    def unix_seconds(self) -> float: ...
    def monotonic(self) -> float: ...

# --- dataplane
@final
class Namespaces:
    """Network namespaces of clients, by the addresses that they have there. Destinations in `reached` (ranges) see a
    client of one of them with its own address, since connections for it are made in its namespace."""

    def __new__(cls, reached: Sequence[str]) -> Namespaces: ...
    def put(self, address: str, descriptor: int) -> None:
        """The namespace is held by a descriptor of its own. OSError where connections cannot be made there (EPERM
        without CAP_SYS_ADMIN); ValueError for what is no address or no descriptor."""
    def remove(self, address: str) -> None:
        """Connections that were made live on."""

@final
class Forwarder:
    """Listens on the addresses of a balancer's virtual services and carries connections to their destinations.

    Runs on the extension's own threads. A destination that cannot be reached within `connect_timeout` (seconds), or that
    closes the connection before it has taken or said anything, is passed over for another, `attempts` times in all, six
    of them for want of an answer. A
    UDP flow is forgotten after `udp_timeout` silent seconds. With `one_listener` all addresses share one socket, for
    each of TCP and UDP, where the kernel has sk_lookup and we the right to it (CAP_BPF, CAP_NET_ADMIN): they take no
    descriptors then, and nobody who comes to listen at 0.0.0.0 takes their clients. With `freebind` addresses need not
    be this host's when they are bound (of IPv6 a route is not enough otherwise). Connections of clients whose network
    namespaces are in `namespaces` are made there.
    """

    def __new__(
        cls,
        balancer: Balancer,
        clock: Clock | None = None,
        *,
        connect_timeout: float = 2.0,
        attempts: int = 32,
        udp_timeout: float = 60.0,
        one_listener: bool = False,
        freebind: bool = False,
        namespaces: Namespaces | None = None,
    ) -> Forwarder: ...
    @property
    def listens_apart(self) -> str | None:
        """Why each service has a socket of its own; None: those share one that can. Services some of whose clients are
        dropped (`set_access`) cannot."""
    def listen(
        self,
        protocol: str,
        address: str,
        port: int,
        *,
        bind_address: str | None = None,
        bind_port: int | None = None,
        proxy_protocol: int | None = None,
    ) -> tuple[str, int]:
        """Bind (by default the service's own address) and serve; returns what was bound. While the service has no
        destination its port refuses connections. `proxy_protocol` 1 or 2 tells destinations of a TCP service their
        clients' addresses in that version of the PROXY protocol. OSError with errno as bind(2) gives it; ValueError for
        an unknown service, one that is listened for already, and SCTP."""
    def set_access(
        self,
        protocol: str,
        address: str,
        port: int,
        *,
        sources: Sequence[str] = ...,
        silent: bool = False,
        led: Sequence[tuple[str | Sequence[str], Sequence[str], int | None]] = ...,
        apart: bool = False,
        inside_ranges: Sequence[str] = ...,
        transparent_ranges: Sequence[str] = ...,
        proxy_protocol: int | None = None,
    ) -> None:
        """Who may come to a service that is listened for, from now on. Packets from elsewhere than `sources` (ranges;
        none: everywhere) are dropped. `silent`: while there is no destination they are dropped, too, not refused.
        `led` are rules (clients, targets, mark), of which the first that fits counts: clients "all", "inside" (this
        host and `inside_ranges`) or ranges, who come to one of the addresses `targets` (none: to whichever), are led by
        the service with this firewall mark; None: by the listener's own. `apart`: the service has a socket of its own
        also while nobody is dropped, so that no connection is lost when somebody is. Destinations in
        `transparent_ranges` see the addresses of who is not inside (needs CAP_NET_ADMIN, and a host that keeps answers
        to these).
        `proxy_protocol` is as in `listen`.
        ValueError for what is no range, an unknown service, and one that is not listened for."""
    def close(self, protocol: str, address: str, port: int) -> bool:
        """Free the port; open connections live on. False: it was not listened for."""
    def shutdown(self) -> None:
        """Close all listeners and end all connections."""
    def listening(self) -> list[tuple[str, tuple[str, int], tuple[str, int]]]:
        """(protocol, service address, bound address) each."""
    def connections(self) -> list[tuple[tuple[str, int], tuple[str, int], tuple[str, int]]]:
        """(client, virtual address, destination) each, also while the destination is being reached."""
    def targets(self) -> set[tuple[str, int]]:
        """The virtual addresses that open connections came to. Of many connections this is much less than all of them."""
    def statistics(self) -> dict[str, int]:
        """accepted, refused, retried, dropped (UDP packets) since the start, and open now."""

# --- dns
@final
class DnsServer:
    """Answers DNS queries from tables, and forwards what is not in them. Thread-safe; runs on the extension's threads.

    All names of `domain` are its own (NXDOMAIN with SOA for unknown ones, SERVFAIL before the first `set_records`);
    names elsewhere are answered when they are in the tables and handed to `upstreams` otherwise (REFUSED without any,
    SERVFAIL when none answers). `stub_domains` have resolvers of their own; the longest that fits counts, and one below
    `domain` has the names that are not in the tables. Resolvers are "10.0.0.2", "10.0.0.2:5353", "fd00::1" or
    "[fd00::1]:5353". ValueError for others, and for a stub domain that is `domain` or above it.
    """

    def __new__(
        cls,
        domain: str,
        clock: Clock | None = None,
        *,
        upstreams: Sequence[str] = ...,
        stub_domains: Mapping[str, Sequence[str]] = ...,
    ) -> DnsServer: ...
    def set_records(self, changes: Sequence[tuple[str, Sequence[tuple[str, str, int, str]]]]) -> None:
        """(owner, records) each: replaces all records of that owner. A record is (name, type, TTL, value) with the
        value as in a zone file; types A, AAAA, CNAME, NS, PTR, SRV, TXT, and EMPTY (the name exists) and PODS (names
        below it like 10-1-2-3 or fd00--1 have the address they spell). ValueError names a record that cannot be."""
    def set_upstreams(self, upstreams: Sequence[str], stub_domains: Mapping[str, Sequence[str]] = ...) -> None:
        """Replace both. ValueError as for a new server."""
    def set_search(self, domains: Sequence[str]) -> None:
        """Where clients look after the cluster's domains: the host's search path."""
    def set_clients(self, clients: Sequence[tuple[str, str | None]]) -> None:
        """(address, domain its search path begins with) of clients whose path is gone through here: asked for a missing
        A or AAAA below that domain, the answer is an alias to the first name of the path that exists. None forgets
        one."""
    def listen(self, address: str, port: int, *, ahead: bool = False) -> tuple[str, int]:
        """Answer on UDP and TCP; port 0 picks one. `ahead`: no link needs to have the address yet. OSError with errno
        as bind(2) gives it."""
    def close(self, address: str, port: int) -> bool: ...
    def shutdown(self) -> None:
        """Close all listeners."""
    def listening(self) -> list[tuple[str, int]]: ...
    def answer(self, query: bytes) -> bytes | None:
        """The answer over UDP from the tables alone; None for what is forwarded or is no query."""
    def fileno(self) -> int:
        """Readable when `troubles` has become another, until that is asked."""
    def troubles(self) -> dict[str, str]:
        """Resolvers that have not answered several times in a row, and why."""
    def statistics(self) -> dict[str, int]:
        """queries and forwarded since the start, and records now."""

# --- fresh
def new_uid() -> str:
    """A random UUID (version 4)."""

def random_suffix(length: int = 5) -> str:
    """Of generated names: letters without vowels, and digits without look-alikes."""

def outline(object: dict[str, Any]) -> bytes | None:
    """The members of an object and of what is in it, in an order and an encoding of their own: what decides who owns
    what of it once it is new. Objects of one kind with the same outline get the same managedFields from the same
    manager. None where there is a list, whose elements may be owned by what they say, or a number with a fraction."""

def is_plain_metadata(metadata: dict[str, Any], namespaced: bool) -> bool:
    """Whether nothing is wrong with the metadata of an object that is to be called as most are, by an RFC 1123
    subdomain. False, too, for what only a closer look can tell: whatever is rare, and what is wrong."""

# --- front
@final
class UserInfo:
    """Who asks: as user.Info in Kubernetes. Immutable."""

    def __new__(
        cls,
        username: str,
        uid: str = ...,
        groups: Sequence[str] = ...,
        extra: Mapping[str, Sequence[str]] | None = None,
    ) -> UserInfo: ...
    @property
    def username(self) -> str: ...
    @property
    def uid(self) -> str: ...
    @property
    def groups(self) -> tuple[str, ...]: ...
    @property
    def extra(self) -> dict[str, tuple[str, ...]]: ...

@final
class Flow:
    """Priority and fairness: off until it is configured."""

    def configure(self, objects: bytes) -> None:
        """Puts in force, as JSON: `seats` of all levels together, `levels` and `schemas`, each with name, uid and spec,
        mandatory ones included. ValueError for what cannot be read."""

@final
class Judged:
    """What `/metrics` counts of requests that Python has judged; `seconds` is how long that took."""

    def asking(self) -> None:
        """Somebody is asked about a token: until `known` or `unknown` is called."""
    def known(self, user: UserInfo, seconds: float) -> None: ...
    def unknown(self, seconds: float) -> None:
        """The credentials are bad, or could not be judged."""
    def authorized(self, decision: Literal["allowed", "denied", "no-opinion", "error"], seconds: float) -> None: ...

@final
class Audit:
    """Tells who asked for what, and how it was answered, as far as a policy wants to know."""

    def configure(
        self,
        policy: bytes,
        *,
        log_path: str | PathLike[str] | None = None,
        megabytes: int = 0,
        days: int = 0,
        backups: int = 0,
        compress: bool = False,
        legacy: bool = False,
        buffer: int = 0,
        strict: bool = False,
        event_bytes: int = 0,
        outbox: AuditOutbox | None = None,
    ) -> None:
        """From now on requests are audited. `policy` is an audit.k8s.io/v1 Policy in JSON (ValueError for another); with
        a `buffer` of so many events requests do not wait for the log; larger events than `event_bytes` lose their
        objects there (0: none do). `strict`: a request that the log does not take is refused. OSError when that cannot be opened."""
    def stop(self) -> None:
        """Nothing is audited any more; what was taken is written."""
    def outbox(self, room: int, wake: Callable[[], object]) -> AuditOutbox:
        """Events to come for; `wake` is called in `Front.drain` when there are some and `collect` got none before."""
    def begin(
        self,
        user: UserInfo,
        verb: str,
        uri: str,
        path: str,
        resource: tuple[str, str, str, str, str, str] | None = None,
        *,
        user_agent: str = "",
    ) -> AuditRecord | None:
        """A request that did not come through the front; `resource` is (group, version, resource, subresource,
        namespace, name). None where the audit does not want to hear of it."""
    @property
    def is_on(self) -> bool: ...

@final
class AuditOutbox:
    def collect(self, limit: int) -> list[bytes]:
        """Up to so many events, oldest first, each a line of JSON."""
    @property
    def lost(self) -> int:
        """Events there was no room for."""

@final
class AuditRecord:
    """What is recorded of a request."""

    @property
    def is_rejected(self) -> bool:
        """It could not be told that the request came, and it must not go on."""
    @property
    def wants_request(self) -> bool: ...
    @property
    def wants_response(self) -> bool: ...
    def annotate(self, key: str, value: str) -> None:
        """Of several values for one key the first one stays."""
    def decided(self, decision: str, reason: str) -> None:
        """ "allow" or "forbid"."""
    def named(self, namespace: str, name: str, uid: str, resource_version: str) -> None:
        """What the request's object says of itself, where that is not known yet."""
    def requested(self, object: bytes) -> None:
        """The request's object, or its patch, as JSON."""
    def responded(self, body: bytes) -> None:
        """The answer as JSON; of several the first one stays."""
    def panicked(self, why: str) -> None:
        """Our own code has failed: the end that is told is the stage `Panic`."""
    def took(
        self,
        layer: Literal["authentication", "authorization", "mutating-webhook", "validating-webhook"],
        seconds: float,
    ) -> None:
        """So long a part of the request took, which is told if the whole took long."""
    def started(self, code: int) -> None:
        """The head of an answer that lasts is out."""
    def complete(self, code: int) -> None: ...

@final
class Front:
    """The HTTP listener: reads are answered from the watch cache, the rest is handed over by `drain`.

    Times are seconds. Works on its own threads; every method returns at once.
    """

    def __new__(
        cls,
        cache: WatchCache,
        *,
        clock: Clock | None = None,
        max_body_bytes: int = ...,
        max_header_bytes: int = ...,
        max_connections: int = 16384,
        max_streams: int = 1000,
        handshake_timeout: float = 10.0,
        header_timeout: float = 32.0,
        idle_timeout: float = 90.0,
        body_timeout: float = 60.0,
        unwanted_body_timeout: float = 1.0,
        write_stall_timeout: float = 30.0,
        min_watch_seconds: float = 1800.0,
    ) -> Front: ...
    @property
    def max_streams(self) -> int:
        """Of a connection of HTTP/2, at the same time."""
    @property
    def idle_timeout(self) -> float:
        """Between requests of a connection."""
    def listen_tls(self, host: str, port: int, certificate: ServingCertificate) -> int:
        """Serve HTTPS (HTTP/1.1 and HTTP/2); returns the bound port. OSError when the address cannot be had."""
    def listen_tls_on(self, listener: int, certificate: ServingCertificate) -> int:
        """The same on a socket that listens already, of which the caller keeps its own descriptor."""
    def listen_plain(self, host: str, port: int) -> int:
        """Serve the insecure port: loopback addresses only (ValueError); every request is system:unsecured of system:masters."""
    def route(
        self,
        group: str,
        version: str,
        plural: str,
        resource: int,
        namespaced: bool,
        verbs: Sequence[str],
        subresources: Sequence[str],
        *,
        schema: CustomSchema | None = None,
        warning: str | None = None,
    ) -> None:
        """What the read path may serve from the cache's `resource`; called again for the same path it replaces.

        `schema` prunes objects of a version that is not the stored one; `warning` is a Warning header of every answer.
        KeyError for a resource, ValueError for a version that the cache does not know.
        """
    def unroute(self, group: str, version: str, plural: str) -> None: ...
    def delegate(self, versions: Sequence[tuple[str, str]]) -> None:
        """All group versions, as (group, version), that another server answers for: requests for them come here with their
        bodies unread, to be forwarded."""
    def audit(self) -> Audit: ...
    def judged(self) -> Judged: ...
    def flow(self) -> Flow: ...
    def authenticator(self) -> Authenticator: ...
    def authorizer(self) -> Authorizer: ...
    def set_in_flight(self, reading: int, mutating: int) -> None:
        """How many requests of each kind may be under way at once; 0 is no bound."""
    def set_version(self, info: bytes) -> None:
        """The JSON body of /version."""
    def keep_traces(self, per_million: int) -> None:
        """Requests that are kept in a trace, so many of a million where nobody says so of them, are all handed over."""
    def set_ready(self, ready: bool) -> None: ...
    def set_check(self, name: str, healthy: bool, endpoints: Sequence[str] = ...) -> None:
        """A named line of /healthz, /livez and /readyz; added on first use."""
    def set_terse(self, terse: bool) -> None:
        """Whether who is nobody gets a 401 in plain text, as from a kubelet, and no Status."""
    def set_metrics_source(self, source: Callable[[], bytes] | None, *, alone: bool = False) -> None:
        """Prometheus text added to /metrics, or, `alone`, all that is told there; called on a thread of its own."""
    def metrics(self) -> bytes: ...
    def fileno(self) -> int:
        """An eventfd, readable while `drain` has something to give."""
    def drain(self, limit: int = 64) -> list[Request]:
        """Waiting requests of all users in turn, oldest first of each. Runs the callbacks of streams, upgrades and cancelled requests that are due, too."""
    def shutdown(self, grace_seconds: float) -> None:
        """Stop listening, end watches, let requests in flight finish within the grace, then close. Blocks, GIL released."""

@final
class Request:
    """A request that Python answers, once: respond, respond_stream, upgrade or resume. Dropped unanswered it becomes a 500."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str:
        """Percent-decoded."""
    @property
    def query(self) -> str:
        """As sent, undecoded, without '?'."""
    @property
    def verb(self) -> str:
        """get list watch create update patch delete deletecollection; the lower-case method for non-resource requests."""
    @property
    def is_resource(self) -> bool: ...
    @property
    def api_group(self) -> str: ...
    @property
    def api_version(self) -> str: ...
    @property
    def namespace(self) -> str: ...
    @property
    def resource(self) -> str: ...
    @property
    def subresource(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def rest(self) -> str:
        """What follows the subresource (proxy paths), decoded, without a leading '/'."""
    @property
    def accept(self) -> str: ...
    @property
    def head(self) -> bytes:
        """Equal for requests that differ in nothing but body, sender and headers that are no matter to a write:
        method, path, query, Accept, Content-Type and User-Agent are the same."""
    @property
    def content_type(self) -> str: ...
    @property
    def user_agent(self) -> str: ...
    @property
    def body(self) -> bytes: ...
    @property
    def remote(self) -> str:
        """The peer as ip:port."""
    @property
    def sampled(self) -> bool | None:
        """Whether it is kept in a trace; None: nobody has decided."""
    @property
    def secure(self) -> bool:
        """False on the insecure port."""
    @property
    def user(self) -> UserInfo | None: ...
    @property
    def authenticated(self) -> bool | None:
        """None: the token is of no kind known here, and Python must judge it (`header("authorization")`)."""
    @property
    def resumed(self) -> bool:
        """Whether it has come back once `resume` has said whom it goes on as."""

    @property
    def authorized(self) -> bool | None:
        """None: Python must decide: another authorization mode, or an impersonation header."""
    @property
    def audit(self) -> AuditRecord | None:
        """What the audit records of it; None where it does not want to hear of it, or who asks is not known yet."""
    @property
    def wants_upgrade(self) -> bool: ...
    @property
    def cancelled(self) -> bool:
        """The client has gone; an answer would be thrown away."""
    def header(self, name: str) -> str | None: ...
    def headers(self) -> list[tuple[str, str]]: ...
    def on_cancelled(self, callback: Callable[[], None]) -> None:
        """Called within `drain` when the client goes before the answer."""
    def respond(
        self,
        status: int,
        body: bytes,
        content_type: str = "application/json",
        headers: Sequence[tuple[str, str]] = ...,
    ) -> None:
        """RuntimeError when answered before."""
    def respond_stream(
        self, status: int, content_type: str, headers: Sequence[tuple[str, str]] = ...
    ) -> ResponseStream: ...
    def identified(self, user: UserInfo) -> None:
        """Who asks is known, and, called again, as whom he goes on: the audit hears of it."""
    def waited(self, seconds: float) -> None:
        """So long webhooks were waited for: `apiserver_request_sli_duration_seconds` leaves it out."""
    def resume(self, user: UserInfo, *, authorized: bool = False) -> None:
        """Python has named the user (and, with `authorized`, allowed the request): go on in Rust as if it had found out itself.

        The request comes back through `drain` when it is still Python's to answer.
        """
    def upgrade(self, headers: Sequence[tuple[str, str]], status: int = 101) -> UpgradedConnection:
        """Switch protocols; the bytes after that are the caller's. ValueError when the client asked for no upgrade."""

@final
class BackendTls:
    """TLS towards kubelets, pods and services.

    `identity`: certificate and key (PEM) to show. Without `ca_pem` any certificate of a backend will do; with it one that
    it has issued, for whatever name, or, with `named`, for the one that is asked for; with `system` one for that name by
    whomever this machine trusts. ValueError for what cannot be read.
    """

    def __new__(
        cls,
        *,
        identity: tuple[bytes, bytes] | None = None,
        ca_pem: bytes | None = None,
        named: bool = False,
        system: bool = False,
    ) -> BackendTls: ...

class UnfinishedAnswer(ConnectionError):
    """An answer of which only the beginning has come."""

@final
class OutgoingClient:
    """Connections to other servers over HTTP/1.1, which are kept; with `tls` all of them secured by that."""

    def __new__(cls, tls: BackendTls | None) -> OutgoingClient: ...
    def keeps(self, name: str, port: int) -> bool:
        """Whether a connection waits for the next request to it."""

@final
class OutgoingCalls:
    """Requests to other servers, for the event loop. It is to look for answers (`drain`) when `fileno` is readable."""

    def __new__(cls, event_loop: AbstractEventLoop) -> OutgoingCalls: ...
    def fileno(self) -> int: ...
    def post(
        self,
        client: OutgoingClient,
        name: str,
        port: int,
        target: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        *,
        place: tuple[str, int] | None,
        seconds: float,
        largest: int,
    ) -> Pending[tuple[int, str, str, bytes] | None]:
        """Status, Content-Type, Retry-After and body of an answer, redirects included, to be awaited.

        `name` is what the server's certificate is for, `target` path and query. It is asked over a connection that is
        kept, or over a new one to `place`, host (or address) and port; where there is neither the result is None, and
        nothing was sent. Raises ValueError for what cannot be sent; the wait raises TimeoutError after `seconds`,
        UnfinishedAnswer, and ConnectionError (also ConnectionResetError) where there is no answer or one of more than
        `largest` bytes: in Go's words."""

    def drain(self) -> list[BaseException]:
        """Has those go on whose answers have come; what they raise that should not."""

    def close(self) -> list[BaseException]:
        """The same with those that wait: nobody answers them any more (ConnectionError)."""

def forward(
    request: Request,
    *,
    host: str,
    port: int,
    target: str,
    tls: BackendTls | None = None,
    prefix: str | None = None,
    rejects_redirects: bool = False,
    server_name: str | None = None,
    user: UserInfo | None = None,
    patience: float | None = None,
) -> None:
    """Answer a request with what a backend answers to the same under the path and query `target`, without credentials.

    A client that asks for another protocol is joined with the backend once that has switched; else it gets the backend's
    refusal. `prefix` is the path of ours at which the backend's `/` is seen: redirects are told with it. `server_name` is
    what the backend's certificate is for, if not its host. An extension API server is told who asks (`user`, in headers
    X-Remote-*); the head of its answer may take `patience` seconds. RuntimeError when answered before.
    """

@final
class ContainerSession:
    """A client joined to a process's streams. It must be kept until the process has ended."""

    def finish(self, outcome: bytes) -> None:
        """The process has ended: what it has written is sent, then `outcome` in the error channel, then all is closed."""

def serve_container(
    request: Request,
    headers: Sequence[tuple[str, str]],
    *,
    transport: str,
    wanted: tuple[bool, bool, bool, bool],
    resizable: bool,
    descriptors: tuple[int, int, int, int],
    on_closed: Callable[[], None],
) -> ContainerSession:
    """Switch a request's connection (101 with `headers`) to a session of exec or attach.

    `transport`: spdy, websocket, websocket-base64, or websocket-closing (v5, in which stdin can be ended). `wanted`:
    stdin, stdout, stderr, tty. `descriptors`: our ends of stdin, stdout and stderr and the terminal, -1 for none, given
    away with the call. `on_closed` is called within `drain` when the session is over, even if it never began.
    RuntimeError when answered before.
    """

def serve_port_forward(
    request: Request,
    headers: Sequence[tuple[str, str]],
    *,
    transport: str,
    ports: Sequence[int],
    network: int,
    addresses: Sequence[IPv4Address | IPv6Address],
    pod: str,
    uid: str,
) -> None:
    """Switch a request's connection (101 with `headers`) to one that is forwarded to ports of a pod.

    `transport`: spdy, spdy-tunnel (SPDY in a WebSocket), websocket or websocket-base64 (channels for the `ports`, which
    SPDY does not name beforehand). `network`: descriptor of the pod's network namespace, given away with the call, where
    localhost is tried first, or -1. `addresses` of the pod are tried in turn. `pod` and `uid` are for what clients are told.
    """

@final
class ResponseStream:
    """A body written piece by piece. At most `capacity` bytes wait; then `write` still takes them but `writable` is False."""

    def write(self, data: bytes) -> bool:
        """False: the client has gone."""
    @property
    def writable(self) -> bool: ...
    @property
    def closed(self) -> bool: ...
    def on_writable(self, callback: Callable[[], None]) -> None:
        """Called once, within `drain`, when there is room again or the client has gone; at the next `drain` if that is so already."""
    def on_closed(self, callback: Callable[[], None]) -> None: ...
    def close(self) -> None:
        """The end of the body. A stream that is dropped unclosed breaks the connection, as it must."""

@final
class UpgradedConnection:
    """Raw bytes both ways. Callbacks run within `drain`."""

    def on_data(self, callback: Callable[[bytes], None]) -> None:
        """Called with each piece, and with b"" at the end. A few pieces at most are read ahead of the callback."""
    def write(self, data: bytes) -> bool: ...
    @property
    def writable(self) -> bool: ...
    @property
    def closed(self) -> bool: ...
    def on_writable(self, callback: Callable[[], None]) -> None: ...
    def on_closed(self, callback: Callable[[], None]) -> None: ...
    def close(self) -> None: ...

@final
class Authenticator:
    def set_client_ca(self, pem: bytes) -> None:
        """Client certificates are judged by these CAs from now on, in open connections too. ValueError for bad PEM."""
    def set_front_proxy(
        self,
        ca_pem: bytes,
        *,
        names: Sequence[str],
        user_headers: Sequence[str],
        uid_headers: Sequence[str],
        group_headers: Sequence[str],
        extra_prefixes: Sequence[str],
    ) -> None:
        """Users named in headers are believed of certificates of this CA with one of these common names (none: any).
        ValueError for bad PEM and for what is no name of a header."""
    def set_service_account_keys(
        self, public_pems: Sequence[bytes], issuers: Sequence[str], audiences: Sequence[str]
    ) -> None:
        """SubjectPublicKeyInfo PEM, RSA, P-256 or P-384. ValueError for other keys."""
    def keep_token(self, token: str, user: UserInfo) -> None:
        """The token is good, for the API's own audiences, until it is forgotten."""
    def forget_token(self, token: str) -> None: ...
    def vouch(self, token: str, user: UserInfo, expires_unix: float) -> None:
        """Python has found the token good for the API: it need not be asked again until then."""
    def remark(self, token: str, *, warning: str | None = None, annotations: Sequence[tuple[str, str]] = ...) -> None:
        """What is said of the token, good or not, whenever somebody comes with it: the value of a Warning header, and
        audit annotations; until `forget_vouched`. ValueError for what is no header's value."""
    def forget_vouched(self) -> None:
        """All that Python has vouched for is judged anew."""
    def set_delegate(self, delegate: bool) -> None:
        """Hand requests with a token unknown here to Python (authenticated None) instead of answering 401."""
    def set_anonymous(self, enabled: bool, paths: Sequence[str] = ...) -> None:
        """Whether requests without credentials are let in, with paths: at exactly these."""
    def review_token(self, token: str, audiences: Sequence[str]) -> tuple[UserInfo, list[str]] | None:
        """A service account token or a kept one judged for other audiences: the user and the audiences that fit."""

@final
class PolicySeen:
    @property
    def current(self) -> bool:
        """Whether no role, binding or mode has been changed since."""

@final
class OpenRight:
    """A right that the front holds, of which Python is to decide whether it still is one."""

    @property
    def user(self) -> UserInfo: ...
    @property
    def attributes(self) -> tuple[str, ...]:
        """As `Authorizer` takes them."""
    def lapse(self) -> None:
        """What goes on by it ends."""

@final
class Authorizer:
    """RBAC compiled from the watch cache's roles and bindings; a change counts from its publication on.

    Attributes are ten texts: verb, group, version, resource, subresource, namespace, name, path, field selector, label
    selector. A non-empty path makes it a non-resource request."""

    def set_modes(self, modes: Sequence[str], names: Sequence[str] = ...) -> None:
        """In order. Node for node users is Python's, and Webhook, the first of which has the number 0. What webhooks
        have said is forgotten. Decisions of those that have `names` are counted. ValueError for a mode that does not
        exist."""
    def decided(self, mode: int, allowed: bool) -> None:
        """The mode of that number has decided, in Python."""
    def set_abac(self, policies: bytes) -> None:
        """JSON array of the specs of ABAC policies. ValueError for what is none."""
    def authorize(self, user: UserInfo, attributes: tuple[str, ...]) -> tuple[bool | None, str]:
        """(decision, reason of a no). None: a mode of Python's must decide."""
    def rbac_allows(self, user: UserInfo, attributes: tuple[str, ...]) -> tuple[bool, str]:
        """RBAC's opinion alone, with the reason."""
    def abac_allows(self, user: UserInfo, attributes: tuple[str, ...]) -> bool: ...
    def remember(
        self,
        webhook: int,
        user: UserInfo,
        attributes: tuple[str, ...],
        *,
        allowed: bool | None,
        reason: str,
        until: float,
    ) -> None:
        """What a webhook has said (None: no opinion), which counts until then, in Unix seconds."""
    def opinion(self, webhook: int, user: UserInfo, attributes: tuple[str, ...]) -> tuple[bool | None, str] | None:
        """What is remembered of a webhook's opinion; None: nothing."""
    def policy(self) -> PolicySeen:
        """RBAC's policy and the modes as they are now, to see later whether they are others."""
    def review(self) -> list[OpenRight]:
        """Of the rights that the front holds, those that Python has to decide. Those that are refused lapse."""
    def rules_for(self, user: UserInfo, namespace: str) -> tuple[bytes, list[str]]:
        """JSON array of PolicyRules, duplicates merged, and the errors met while resolving them."""
    def covers(self, user: UserInfo, namespace: str, rules: bytes) -> tuple[list[str], list[str]]:
        """Escalation check: the PolicyRules (JSON array) the user does not hold, in Kubernetes' words, empty when all are
        held; and the errors met while resolving what he holds. OverflowError, with their number, when they are more than
        can be checked while others wait."""

# --- serving
@final
class ServingCertificate:
    """A certificate with its key, in PEM, as listeners show it. ValueError for a pair that is none."""

    def __new__(cls, certificate_pem: bytes, key_pem: bytes) -> ServingCertificate: ...
    def replace(self, certificate_pem: bytes, key_pem: bytes) -> None:
        """Whoever connects from now on is shown this one. ValueError; then the one there was stays."""

# --- ingress
@final
class IngressCertificate:
    """A certificate chain and its key (PEM). ValueError: one is broken, or the key is another certificate's."""

    def __new__(cls, chain: bytes, key: bytes) -> IngressCertificate: ...

@final
class IngressProxy:
    """An HTTP reverse proxy that routes by host and path to balanced destinations.

    Runs on the extension's own threads. Everything can be changed while it serves: a request ends as it began. Times in
    seconds: `connect_timeout` for one of `attempts` destinations, `response_timeout` from a request's end to its answer,
    `header_timeout` for a client's first head, `idle_timeout` between its requests, `write_stall_timeout` for one that
    does not read. Hosts are in lower case: a name, `*.name`, or "" for rules without a host.
    """

    def __new__(
        cls,
        clock: Clock | None = None,
        *,
        connect_timeout: float = 5.0,
        response_timeout: float = 60.0,
        attempts: int = 3,
        header_timeout: float = 30.0,
        idle_timeout: float = 75.0,
        write_stall_timeout: float = 60.0,
        max_header_bytes: int = 65536,
    ) -> IngressProxy: ...
    def listen(self, address: str, port: int, *, tls: bool = False, ahead: bool = False) -> int:
        """The bound port; 0 picks one. `ahead`: no link needs to have the address yet. OSError as bind(2) gives it."""
    def set_certificates(
        self, hosts: Sequence[tuple[str, IngressCertificate]], default: IngressCertificate | None = None
    ) -> None:
        """Replace all of them at once: by the name that clients ask for, and for all other names."""
    def set_backend(
        self,
        name: str,
        destinations: Sequence[tuple[str, int, int]],
        *,
        protocol: str = "http",
        scheduler: str = "rr",
        persistence_seconds: float | None = None,
        tls_name: str = "",
        tls_roots: bytes | None = None,
        tls_identity: tuple[bytes, bytes] | None = None,
        connect_timeout: float | None = None,
        read_timeout: float | None = None,
    ) -> None:
        """(address, port, weight) each. `protocol` is http, https, h2c, or h2 (HTTP/2 in TLS).

        In TLS `tls_name` is asked for; with `tls_roots` (PEM) the destination's certificate must be for it and be signed
        by one of them, else any will do; `tls_identity` (chain and key, PEM) is shown to destinations that ask for it.
        Timeouts in seconds, instead of the proxy's: `read_timeout` also between any two pieces of an answer. ValueError
        for what cannot be parsed; the backend stays as it was.
        """
    def remove_backend(self, name: str) -> bool: ...
    def set_hosts(
        self,
        changes: Sequence[tuple[str, tuple[Sequence[tuple[bool, str, str, str]], tuple[str, str] | None] | None]],
    ) -> None:
        """Replace all that is said about some hosts, in one step: (exact, path, backend, whose) each, the first of two
        alike counts, and (backend, whose) for paths that are none of them. None takes a host out."""
    def set_fallback(self, fallback: tuple[str, str] | None) -> None:
        """(backend, whose) for requests that nothing else is for; without one they are answered 404."""
    def route(self, authority: str, path: str) -> str | None:
        """The backend a request would go to."""
    def log_to(self, path: str | PathLike[str] | None) -> None:
        """Append a line of JSON for each request to a file from now on; None ends it. OSError."""
    def statistics(self) -> dict[str, Any]:
        """statuses ([(status, answers)]), retries, bytes (of answers), accepted and open connections, upgraded,
        idle_connections (to destinations), hosts, log_lines_dropped, and backends: (name, answers by the hundreds of
        their status, milliseconds of all together) each."""
    def shutdown(self, grace: float = 0.0) -> None:
        """Stop listening; requests may finish within `grace` seconds. Returns when none is left."""

# --- launch
# (kind, first, second, third, flags, data, optional, instead of the one before, if that has failed):
#   ("mount", source, target, filesystem, MS_ flags, data), ("read-only", path), ("directory", path, mode as flags),
#   ("read-only-tree", path), ("bind-beneath", base, relative, target),
#   ("bind-mapped", source, target, file of a user namespace), ("write", path, data),
#   ("file", path, mode as flags), ("symlink", target, path), ("root", path). An empty string is a null pointer.
_Step = tuple[str, bytes, bytes, bytes, int, bytes, bool, bool]

def create_namespaces(
    *,
    namespaces: int,
    user_map: tuple[int, int, int, int] | None,
    hostname: bytes,
    steps: Sequence[_Step],
    join: Sequence[tuple[int, int]] = ...,
) -> tuple[int, int, int, int, int, int]:
    """Make namespaces (CLONE_NEW* flags) that live as long as their descriptors: user, mount, network, ipc, uts, and a
    NETLINK_ROUTE socket in the network one; -1 where not asked for. `user_map`: inside uid, outside uid, inside gid,
    outside gid. `join`: namespaces within which they are made, descriptor and CLONE_NEW* flag. OSError with the step
    that failed; then nothing stays.
    """

@final
class NodeNetwork:
    """Addresses (ranges) that are known in a network namespace alone: until `close`, sockets of this process that are
    for them are made in there. The namespace is held by a descriptor of its own. OSError where it cannot be entered,
    nor its user namespace."""

    def __new__(cls, ranges: Sequence[str], namespace: int) -> NodeNetwork: ...
    def close(self) -> None: ...

@final
class WayOut:
    """Carries on, in the network that this process is in, what nf_tables leads to `ports` (of TCP and UDP, at 127.0.0.1)
    within a network namespace: IPv4 alone, and never to this host's loopback. At most `most_connections` are open at once
    (who comes then is reset), and `most_flows` of UDP (that which was quiet for longest makes room), and of either
    `most_of_one` of one client's (None: a quarter of all). A connection that nobody outside takes within
    `connect_timeout` seconds is reset. A flow is forgotten after `udp_timeout` silent seconds, `udp_stream_timeout` once
    its client has gone on after an answer. Runs on the extension's own threads. OSError where the namespace cannot be entered, nor its user namespace."""

    def __new__(
        cls,
        namespace: int,
        clock: Clock | None = None,
        *,
        most_connections: int = 4096,
        most_flows: int = 4096,
        most_of_one: int | None = None,
        connect_timeout: float = 20.0,
        udp_timeout: float = 30.0,
        udp_stream_timeout: float = 120.0,
    ) -> WayOut: ...
    @property
    def ports(self) -> tuple[int, int]: ...
    def statistics(self) -> dict[str, int]:
        """Counts since it was made: `connections` and `flows` that were led here, `refused` connections, `dropped`
        packets."""

    def close(self) -> None:
        """Connections and flows end with it."""

def is_elsewhere(address: str) -> bool:
    """Whether it is one of a NodeNetwork's. ValueError for what is no address."""

def socket_for(address: str, kind: int) -> int:
    """The descriptor of a socket to bind to the address, or to connect to it; the caller owns it. OSError."""

def socket_within(namespace: int, domain: int, kind: int, protocol: int) -> int:
    """The descriptor of a socket of a network namespace; the caller owns it. OSError, EPERM where neither that nor its
    user namespace may be entered."""

@final
class SyscallFilter:
    """A seccomp filter for this machine."""

    def __new__(cls, json: bytes) -> SyscallFilter:
        """From seccompiler's JSON, of one filter. ValueError says what is wrong with it."""

def launch(
    *,
    executables: Sequence[bytes],
    arguments: Sequence[bytes],
    environment: Sequence[bytes],
    directory: bytes,
    stdio: tuple[int, int, int],
    join: Sequence[tuple[int, int]],
    namespaces: int,
    steps: Sequence[_Step],
    user: int | None = None,
    group: int | None = None,
    groups: Sequence[int] | None = None,
    through_user_namespace: bool = False,
    no_new_privileges: bool = False,
    oom_score_adj: int | None = None,
    terminal: bool = False,
    capabilities: int | None = None,
    filters: Sequence[SyscallFilter] = ...,
    groups_of_control: Sequence[int] = ...,
) -> tuple[int, int]:
    """Start a process and return (pid, pidfd) once it has been executed. It is this process's child and is killed when
    the launching thread ends. `stdio` must be above 2. OSError; its `filename` is "exec" when the program itself could
    not be executed, else "setup".
    """

# --- hashing
def fnv1(data: bytes) -> int:
    """32 bits; FNV-1, not 1a."""

def template_hash(template: bytes, collisions: int | None) -> int:
    """Of a PodTemplateSpec as JSON, as Kubernetes' controllers make it. ValueError for what cannot be read."""

def printed_template(template: bytes) -> str:
    """What is hashed of it: Go's print. ValueError for what cannot be read."""

# --- placement
@final
class Crowd:
    """Nodes of a table, without their names. Holds until the table changes."""

    def __len__(self) -> int: ...
    def names(self, table: PlacementTable) -> list[str]: ...
    def holds(self, table: PlacementTable, name: str) -> bool: ...

@final
class PlacementTable:
    """Nodes and the pods on them as kubecore.scheduler.placement tells of them.

    Facts are JSON: PodFacts and NodeFacts of native/core/placement. ValueError for what cannot be read; RuntimeError when
    called from what the table itself is asking.
    """

    def __new__(cls) -> PlacementTable: ...
    def set_node(self, name: str, facts: bytes) -> None:
        """A node is there, or has changed."""
    def remove_node(self, name: str) -> None:
        """Its pods stay known until they are dropped."""
    def set_namespace(self, name: str, labels: bytes | None) -> None:
        """Labels as JSON, for terms that choose namespaces by them; None when it is gone."""
    def put_pod(self, key: str, node: str, facts: bytes) -> None:
        """The pod is on the node, or is about to be; it may have been elsewhere, or different, before."""
    def drop_pod(self, key: str) -> None: ...
    def set_started(self, key: str, started: int | None) -> None:
        """When the pod, if it is there, started, in microseconds since 1970; None when it has not."""
    def set_budgets(self, facts: bytes) -> None:
        """PodDisruptionBudgets: a JSON array of `{"namespace", "selector", "allowed", "disrupted": [names of pods]}`."""
    def nominate(self, uid: str, node: str, priority: int, facts: bytes) -> None:
        """The node is being made free for the pod, which others of a lower priority must yield to."""
    def withdraw(self, uid: str) -> None: ...
    def sizes(self) -> tuple[int, int]:
        """How many pods there are, and how many kinds of them."""

@final
class Placer:
    """Decides for one profile: `{"filters": [plugin], "scores": [[plugin, weight]], ...}` as JSON.

    A wish is (the pod's uid, its priority, the node that is being made free for it); by default nobody's. A diagnosis is (number of nodes, how
    many the pod does not name if it names any, whether it names none that could be, [(plugin, reason, number of nodes)],
    the nodes on which preemption might help).
    """

    def __new__(cls, profile: bytes, seed: int) -> Placer: ...
    def decide(
        self, table: PlacementTable, facts: bytes, wish: tuple[str, int, str | None] = ...
    ) -> tuple[str | None, tuple[int, int | None, bool, list[tuple[str, str, int]], Crowd] | None]:
        """The best node, or why there is none."""
    def search(
        self,
        table: PlacementTable,
        facts: bytes,
        wish: tuple[str, int, str | None] = ...,
        also: Callable[[str], bool] | None = None,
    ) -> tuple[list[str], tuple[int, int | None, bool, list[tuple[str, str, int]], Crowd]]:
        """Nodes that can take the pod, as many as are enough; `also` is asked of those that are found here."""
    def rehearse(
        self,
        table: PlacementTable,
        facts: bytes,
        wish: tuple[str, int, str | None],
        crowd: Crowd,
        plan: tuple[int, int, int, bool],
    ) -> tuple[list[tuple[str, list[str], int]], int, list[tuple[str, int]]]:
        """What preemption on the nodes of the crowd would do.

        `plan` is (the place of the node to begin with, how many candidates are enough, now in microseconds since 1970,
        whether to tell of all candidates and not only the least harmful one). Returns candidates (node, keys of the
        victims, how many of them budgets protect), how many nodes are none, and [(reason, number of nodes)] of those.
        """
    def totals(self, table: PlacementTable, facts: bytes, nodes: Sequence[str]) -> list[int]:
        """Weighted scores of existing nodes, in their order."""
    def scores(self, table: PlacementTable, facts: bytes, plugin: str, nodes: Sequence[str]) -> list[int] | None:
        """Those of one plugin, not weighted; None when it makes no difference."""
    def choose(self, totals: Sequence[int]) -> int | None:
        """The place of one of the highest totals, by chance; None when there are none."""

# --- schema
class SchemaError(Exception):
    """A body is no object of its kind. The message is the Status's."""

    code: int
    reason: str
    message: str
    errors: list[tuple[str, str, str]]
    """("strict", "type" or "syntax", field path, message) each."""

class PatchError(Exception):
    """A patch cannot be applied. The message is the Status's."""

    code: int
    reason: str
    message: str
    detail: str
    """What was wrong, where upstream's message does not tell; of an apply that is Invalid, the field."""
    conflicts: list[tuple[str, str]]
    """Of a refused apply (409): what each conflict is with, and its field path."""

@final
class Applied:
    @property
    def body(self) -> bytes:
        """The object in canonical JSON, without managedFields and before defaults."""
    @property
    def managed(self) -> bytes:
        """Its managedFields, a JSON array."""
    @property
    def warnings(self) -> list[str]: ...

def apart(object: bytes, only: Sequence[str] | None = None) -> tuple[bytes, bytes | None]:
    """A canonical object without its managedFields, and those; of its other members only those called in `only` are
    kept (None: all). ValueError."""

def with_gos_numbers(json: bytes) -> bytes:
    """JSON with its numbers as Go writes what it has read them as: integers of 64 bits, else floats. ValueError."""

def with_members(object: bytes, changes: bytes) -> bytes:
    """A JSON object with some members of its members replaced, added or, by null, taken out; `changes` is an object of
    such objects. The rest is copied as it is. ValueError."""

def media_type(content_type: str) -> str | None:
    """Which media type it names, in lower case; None where Go cannot read it, be it because of a parameter."""

def json_object_fault(text: bytes) -> str | None:
    """What Go says of a text that is to be a JSON object or null; None when it is one."""

@final
class Decoded:
    @property
    def body(self) -> bytes:
        """Canonical JSON: no unknown fields, nulls, spaces; the very object passed in where it was so already."""
    @property
    def warnings(self) -> list[str]:
        """One per unknown or duplicate field, when validation is Warn."""

@final
class DeferredValue:
    """What a write stores, worked out when it is asked for the first time: the LMDB store does it in its writer's thread,
    without the GIL."""

    @staticmethod
    def merged(stored: bytes, changes: bytes, *, opening: bytes) -> DeferredValue:
        """A stored object (canonical JSON) with other members of its members, as `with_members`, who owns what being
        left as it is. `opening`: what canonical bytes of the kind begin with, up to the metadata's first member."""
    def render(self, revision: int) -> bytes:
        """As it is stored at that revision. ValueError where there turns out to be none."""

@final
class Schemas:
    """Types compiled from OpenAPI definitions. Immutable. Kinds are named "apps/v1/Deployment", "v1/Pod"; KeyError for others."""

    def __new__(cls, definitions: bytes) -> Schemas:
        """JSON object of OpenAPI v2 definitions. ValueError."""
    def has(self, kind: str) -> bool: ...
    def decode(
        self, kind: str, body: bytes, content_type: str = "application/json", field_validation: str = ""
    ) -> Decoded:
        """JSON or YAML; field_validation is Ignore, Warn (the default) or Strict. SchemaError."""
    def patch(self, kind: str, current: bytes, patch: bytes, patch_type: str) -> bytes:
        """The patched object, unknown fields and all; patch_type is the Content-Type. PatchError."""
    def patch_decode(
        self, kind: str, current: bytes, patch: bytes, patch_type: str, field_validation: str = ""
    ) -> Decoded:
        """`patch`, then `decode`; an outcome that is no such object is a PatchError 422, as upstream has it."""
    def track(
        self,
        kind: str,
        old: bytes | None,
        new: bytes,
        *,
        manager: str,
        operation: str = "Update",
        time: str,
        subresource: str = "",
    ) -> bytes:
        """`new` (canonical JSON) with managedFields as they are after this update of `old` (None: create) at `time`."""
    def managed(
        self,
        kind: str,
        old: bytes | None,
        new: bytes,
        *,
        manager: str,
        time: str,
        subresource: str = "",
        convert: Callable[[bytes, str], tuple[str, bytes] | None] | None = None,
    ) -> bytes | None:
        """The managedFields `track` would put into `new`, as JSON. `convert` makes of an object (canonical JSON), and a
        version that other entries speak of, its kind there and how it is said there; None for unknown versions."""
    def amended(
        self,
        kind: str,
        stored: bytes,
        changes: tuple[bytes, bytes, bytes, bytes],
        *,
        by: tuple[str, str],
        opening: bytes,
    ) -> DeferredValue:
        """A stored object of a kind that is served in one version, with a condition set in its status and other members
        changed, and with the managedFields that follow. There is none where its status stays what it is. `changes`,
        each canonical JSON: the condition where there is none of its type yet, its members that are set in one that is
        there, members of the status, and of the metadata (null takes one out). `by`: manager and time. `opening`: what
        canonical bytes of the kind begin with, up to the metadata's first member."""
    def created(self, kind: str, body: bytes, metadata: bytes, *, by: tuple[str, str], opening: bytes) -> DeferredValue:
        """A new object as it is sent (JSON, strictly read), with its defaults, `metadata` (JSON of more members) and the
        managedFields that follow; likewise. There is none where the body is refused."""
    def apply(
        self,
        kind: str,
        live: bytes | None,
        config: bytes,
        *,
        manager: str,
        time: str,
        subresource: str = "",
        force: bool = False,
        reset: Sequence[str] = ...,
        field_validation: str = "",
        convert: Callable[[bytes, str], tuple[str, bytes] | None] | None = None,
    ) -> Applied:
        """Server-side apply of `config` (YAML or JSON) to `live` (None: there is no object yet).

        `reset` names what this path cannot set ("status", "metadata.labels"). Raises PatchError.
        """
    def configure(self, kind: str, live: bytes, config: bytes) -> bytes:
        """`live` with what `config` (JSON) sets, and no books kept. ValueError for a configuration that is no object of
        the kind, or that sets part of what is owned as a whole."""

def cel_times() -> tuple[list[float], tuple[list[int], float], tuple[list[int], float]]:
    """Upper bounds in seconds; how often rules of custom kinds took how long to be compiled in this process, and all
    together; the same of values that were judged by them."""

@final
class CustomSchema:
    """The schema of one served version of a CustomResourceDefinition, compiled. Immutable, thread-safe."""

    def __new__(cls, schema: bytes, *, api_version: str, kind: str, builtin: Schemas) -> CustomSchema:
        """`schema` is the version's openAPIV3Schema as JSON; `builtin` decodes metadata.

        ValueError for what `check` refuses and that cannot be compiled. A rule that does not compile is no error here:
        it fails whenever it is evaluated, as upstream has it for stored definitions.
        """
    @staticmethod
    def check(
        schema: bytes,
        *,
        path: str,
        status: bool = False,
        stored: Sequence[bytes] = ...,
        unchanged: bool = False,
    ) -> list[tuple[str, str, str]]:
        """What is wrong with an openAPIV3Schema: (reason, field, message) each, as the causes of a Status tell it.

        Structural rules, defaults, patterns, list types and the shape of rules. `path` is the field that the schema is
        in, "spec.validation.openAPIV3Schema". `status`: there is a status subresource. `stored`: the schemas of all
        versions before an update; what these have already is tolerated. `unchanged`: the schema is one of them.
        ValueError for what is no JSON.
        """
    def decode(self, body: bytes, content_type: str = "application/json", field_validation: str = "") -> Decoded:
        """JSON or YAML; unknown fields are pruned, and told, where the schema does not preserve them. SchemaError.

        Wrong types are no error here but in `validate`; defaults are not applied.
        """
    def prune(self, body: bytes) -> bytes:
        """A stored object without what this schema does not know, malformed metadata dropped. ValueError."""
    def default(self, body: bytes) -> bytes:
        """With the schema's defaults; the very object passed in where nothing is to be added. ValueError, also for more
        defaults than 64 MiB."""
    def validate(
        self, body: bytes, old: bytes | None = None, *, subresource: str = "", unruled: bool = False
    ) -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]], list[tuple[str, str, str]]]:
        """What is wrong with a defaulted object: (reason, field, message) of each fault, as Status causes have them.

        Three lists: what types and bounds of the schema find; what embedded resources, sets, maps and rules find; and
        what rules find but forgive an update, because it has not changed it: that is to be warned of.

        `old` is the stored object on update: unchanged parts are not judged again. `subresource` is "" or "status".
        Metadata is the caller's to validate, but for what the schema says of it; `unruled` says that something is so
        wrong with it that rules are not to be asked. ValueError.
        """
    def patch(self, current: bytes, patch: bytes, patch_type: str) -> bytes:
        """As `Schemas.patch`; a strategic merge patch is a PatchError 415."""
    def patch_decode(self, current: bytes, patch: bytes, patch_type: str, field_validation: str = "") -> Decoded:
        """As `Schemas.patch_decode`; a strategic merge patch is a PatchError 415."""
    def track(
        self,
        old: bytes | None,
        new: bytes,
        *,
        manager: str,
        operation: str = "Update",
        time: str,
        subresource: str = "",
    ) -> bytes:
        """As `Schemas.track`."""
    def managed(
        self,
        old: bytes | None,
        new: bytes,
        *,
        manager: str,
        time: str,
        subresource: str = "",
        convert: Callable[[bytes, str], tuple[CustomSchema, bytes] | None] | None = None,
    ) -> bytes | None:
        """As `Schemas.managed`; `convert` names the version by its schema. None, too, for an object that is none of
        a version it is compared in."""
    def apply(
        self,
        live: bytes | None,
        config: bytes,
        *,
        manager: str,
        time: str,
        subresource: str = "",
        force: bool = False,
        reset: Sequence[str] = ...,
        field_validation: str = "",
        convert: Callable[[bytes, str], tuple[CustomSchema, bytes] | None] | None = None,
    ) -> Applied:
        """As `Schemas.apply`; `convert` names the version by its schema."""
    def configure(self, live: bytes, config: bytes) -> bytes:
        """As `Schemas.configure`."""

# --- protobuf
def protobuf_encode(json: bytes) -> bytes:
    """An object (it says its apiVersion and kind) in its protobuf envelope. ValueError for kinds without a form."""

def protobuf_decode(body: bytes) -> bytes:
    """An enveloped object as JSON. ValueError, worded as upstream, for bytes that are none."""

def protobuf_frame(event_type: str, object: bytes) -> bytes:
    """One length-delimited WatchEvent around an enveloped object."""

def protobuf_knows(api_version: str, kind: str) -> bool:
    """Whether the kind has a protobuf form: all built-in ones have."""

def protobuf_openapi_v3(json: bytes) -> bytes:
    """A document of OpenAPI v3 as gnostic's `openapi.v3.Document`. ValueError for what is no JSON."""

# --- tunnel
@final
class TlsTunnel:
    """TLS with optional client certificates, copied to the server listening on the Unix socket `upstream`.

    `listener` is the descriptor of a TCP socket that listens; the tunnel has its own copy. OSError when it is none. The
    limits of `front` hold: a connection on which nothing is asked ends.
    """

    def __new__(cls, front: Front, listener: int, certificate: ServingCertificate, *, upstream: str) -> TlsTunnel: ...
    def call(self, peer: str) -> TunnelCall | None:
        """A call that begins now, on a connection that the server knows as `unix-abstract:NAME`; None for a stranger."""
    def close(self) -> None:
        """Stops listening and ends the connections."""

@final
class TunnelCall:
    """A call under way; something is asked on its connection while this lives."""

    def ask(
        self,
        method: str,
        target: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        content_type: str,
        told: Callable[[], object],
        *,
        whole: bool,
    ) -> CarriedAnswer:
        """A request to the front as whoever is at the connection's other end; `headers` that are none of REST's do not
        count. `told` is called in `Front.drain` whenever there is more for who has found nothing, or, where the answer is
        wanted as a `whole`, once all of it is there. ValueError for what is no request."""

@final
class CarriedAnswer:
    """An answer, as far as it is there. It ends when it is dropped."""

    @property
    def status(self) -> int:
        """0 while there is none."""
    @property
    def retry_after(self) -> int:
        """In how many seconds to come again; 0 where that is not said."""
    @property
    def warnings(self) -> list[str]:
        """The values of its headers `Warning`; none before there is an answer."""
    def take(self) -> bytes | None:
        """What is there of the body and has not been taken; None: that was all."""
    def leave(self) -> None:
        """Nobody wants it any more."""

# --- store
@final
class Pending(Generic[_T]):
    """A result that comes later; resolved once, on the loop's thread, while `Store.drain` runs.

    It waits like an asyncio Future inside a Task; `drive` waits for it without one.
    """

    _asyncio_future_blocking: bool
    def __await__(self) -> Generator[Any, Any, _T]: ...
    def __iter__(self) -> Generator[Any, Any, _T]: ...
    def __next__(self) -> Pending[_T]: ...
    def get_loop(self) -> AbstractEventLoop: ...
    def done(self) -> bool: ...
    def cancelled(self) -> bool: ...
    def cancel(self, msg: Any = None) -> bool:
        """The waiter gives up; the work itself goes on."""
    def result(self) -> _T: ...
    def exception(self) -> BaseException | None: ...
    def add_done_callback(self, callback: Callable[[Any], object], *, context: Context | None = None) -> None: ...
    def remove_done_callback(self, callback: Callable[[Any], object]) -> int: ...

def drive(coroutine: Coroutine[Any, Any, None], take_over: Callable[[Coroutine[Any, Any, None], Any], object]) -> None:
    """Runs a coroutine that must not raise, without a Task while it waits only for the store. When it waits for
    anything else, `take_over` is called with it and what it waits for."""

@final
class Feed:
    """Committed writes on their way into the watch cache. Thread-safe; keeps events of unknown prefixes from it."""

    def __new__(cls, cache: WatchCache) -> Feed: ...
    def route(self, prefix: str, resource: int) -> None:
        """What is written under the prefix ("/registry/apps/deployments/") from now on is the resource's."""
    def unroute(self, prefix: str) -> None: ...
    def set_outdated(self, prefix: str, keys: Sequence[str]) -> None:
        """The stored bytes of these keys are not what readers are shown, until they are written again."""
    def outdated(self, prefix: str) -> set[str]: ...
    def is_outdated(self, prefix: str, key: str) -> bool: ...
    def hold(self, prefix: str) -> None:
        """Keeps what is written under the prefix, until `adopt` or `forget`."""
    def forget(self, prefix: str) -> None: ...
    def adopt(
        self,
        prefix: str,
        resource: int,
        revision: int,
        items: Sequence[tuple[str, int, bytes]],
        outdated: Sequence[str],
    ) -> None:
        """Ends `hold`: the resource holds these items (name, revision, object), which were read at `revision`, and what
        was written after that, and takes the prefix over. KeyError when nothing is held."""
    def publish(self, revision: int, events: Sequence[Event]) -> None: ...
    def compacted(self, revision: int) -> None: ...

@final
class Store:
    """The LMDB store. Calls come from the loop's thread; `drain` is called there when `fileno` is readable.

    `sink`: a `Feed`, or an EventSink whose methods are called in the writer's thread. Raises DataDirError.
    """

    def __new__(
        cls,
        directory: str | PathLike[str],
        event_loop: AbstractEventLoop,
        sink: Feed | EventSink,
        *,
        clock: Clock,
        max_events: int,
        min_events: int,
        max_age: float,
        sync: bool,
        encryption: Sequence[tuple[str, Sequence[tuple[str, Sequence[tuple[str, bytes]]]]]],
        own_thread: bool = True,
    ) -> Store:
        """`encryption`: prefixes of keys with their providers in order (kind, and names of keys with their secrets), by
        the first key of the first of which values are sealed in the file. Without an `own_thread` the writer works where
        work is handed over. ValueError for secrets that do not do."""
    def create(self, key: str, value: Template | DeferredValue) -> Pending[Stored]: ...
    def update(self, key: str, value: Template | DeferredValue, *, expected: int) -> Pending[Stored]: ...
    def delete(self, key: str, last: Template | DeferredValue, *, expected: int) -> Pending[Stored]: ...
    def get(self, key: str) -> Pending[Stored | None]: ...
    def list(self, prefix: str, *, start: str = "", limit: int = 0, revision: int = 0) -> Pending[Page]: ...
    def events(self, since: int, *, limit: int = 0) -> Pending[Sequence[Event]]: ...
    def compact(self, revision: int) -> Pending[None]: ...
    def encrypt(
        self, encryption: Sequence[tuple[str, Sequence[tuple[str, Sequence[tuple[str, bytes]]]]]]
    ) -> Pending[None]:
        """Values are sealed so from now on; done when those that are there are, too. ValueError as above."""
    def stop(self) -> Pending[None]:
        """Takes no more work; done when everything that was handed over is, and the file is closed."""
    def hold(self) -> None:
        """Work from now on waits for `hand_over`, and not for the loop's next turn."""

    def hand_over(self) -> None:
        """The writer begins with what it was asked for. Where it has no thread, all of it is answered when this returns,
        and what was written in answer to that, as a rule."""

    def join(self) -> None:
        """Waits for the writer's end, after `stop`."""
    def fileno(self) -> int: ...
    def drain(self) -> Sequence[tuple[int, str, BaseException | None]]:
        """Answers what is done, and gives what is to be logged: level, message, exception."""
    def busy(self) -> bool:
        """Whether work was handed over that was not answered yet."""
    @property
    def revision(self) -> int: ...
    @property
    def compacted(self) -> int: ...
    @property
    def failure(self) -> str | None:
        """Why the store takes no more work, None while it does."""

# --- timing
@final
class TimeSeries:
    """How often something took how long: one series of a histogram."""

    def __new__(cls, bounds: Sequence[float]) -> TimeSeries:
        """`bounds` are the upper ones in seconds, in order."""
    def observe(self, seconds: float) -> None: ...
    def told(self) -> list[int]:
        """How many were within each bound and above the one before; last, those above all."""
    @property
    def seconds(self) -> float:
        """Of all together."""

@final
class TimedCalls:
    """Calls the plugins of a step of admission one after the other, and observes how long each takes. What raises
    `refusal` is observed as a refusal of the plugin's and the step's; other exceptions are not."""

    def __new__(
        cls,
        calls: Sequence[tuple[Callable[..., Any], TimeSeries, bool, TimeSeries, TimeSeries]],
        step: TimeSeries,
        refusal: type[BaseException],
        clock: Clock,
    ) -> TimedCalls:
        """Of each call: where its passing is observed, whether it only adds to what is there, and where its refusals are,
        of the plugin and of the step."""
    def part(self, ctx: object, obj: object, old: object) -> tuple[bool, float]:
        """Whether a call says yes, and how many seconds all took."""
    def whole(self, ctx: object, obj: object, old: object) -> bool:
        """The same of a whole step, which is observed."""
    def last(
        self, ctx: object, obj: object, old: object, seconds: float
    ) -> tuple[Awaitable[None], int, float, float] | None:
        """The last part of a step, whose former ones took `seconds`: None once all have passed, which is observed. Else
        what the first call that has to wait waits for, its number, and when the step and it began: `go_on` or `refused`
        is to follow."""
    def go_on(
        self, ctx: object, obj: object, old: object, number: int, began: float, before: float
    ) -> tuple[Awaitable[None], int, float, float] | None:
        """What was waited for has passed: as `last`, from the next call on."""
    def refused(self, number: int, began: float, before: float) -> None:
        """What was waited for has refused."""
