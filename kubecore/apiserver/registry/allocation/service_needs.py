"""What a Service takes of the cluster: families, addresses, node ports and a port for the health of nodes.

After kubernetes `pkg/registry/core/service/storage/alloc.go` and `storage.go`. As there, all this comes before the
Service is validated, so that what cannot be had is told alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kubecore.api.errors import FieldError, StatusError, internal_error, invalid
from kubecore.apiserver.registry.allocation.cluster_ips import AllocationError, RangeFull
from kubecore.apiserver.registry.allocation.node_ports import NodePorts, PortOperation
from kubecore.apiserver.registry.allocation.service_addresses import ServiceAddresses
from kubecore.apiserver.registry.strategy import Finish, RequestContext
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.service_addresses import (
    FAMILIES,
    NONE,
    family_of,
    validate_cluster_ips,
)
from kubecore.apiserver.registry.validation.services import EXTERNAL_NAME, has_health_port

JSON = dict[str, Any]

_SINGLE, _PREFER, _REQUIRE = "SingleStack", "PreferDualStack", "RequireDualStack"


def uses_cluster_ip(spec: JSON) -> bool:
    """Not all that uses one has one: headless Services have `None`."""
    return bool(spec.get("type") != EXTERNAL_NAME)


def uses_node_ports(spec: JSON) -> bool:
    return spec.get("type") in ("NodePort", "LoadBalancer")


def cluster_ips(spec: JSON) -> list[str]:
    """The addresses a Service holds."""
    if not uses_cluster_ip(spec):
        return []
    addresses = spec.get("clusterIPs") or [spec.get("clusterIP")]
    return [address for address in addresses if address and address != NONE]


def node_ports(spec: JSON) -> list[int]:
    """In the order of the ports; one that several protocols share comes more than once."""
    return [port["nodePort"] for port in spec.get("ports") or [] if port.get("nodePort")]


def _picks_node_ports(spec: JSON) -> bool:
    """Those who ask for none get one."""
    return spec["type"] == "NodePort" or spec.get("allocateLoadBalancerNodePorts") is not False


class ServiceNeeds:
    """Of one API server."""

    def __init__(self, addresses: ServiceAddresses, ports: NodePorts) -> None:
        self._addresses = addresses
        self._ports = ports

    # --- the hooks

    def for_create(self, ctx: RequestContext, service: JSON) -> Finish:
        """Writes into the Service what it gets. Raises StatusError when it cannot be had."""
        spec = service["spec"]
        if spec.get("clusterIP") and not spec.get("clusterIPs"):
            spec["clusterIPs"] = [spec["clusterIP"]]
        self._families(ctx, spec, {})
        ports = PortOperation(self._ports, dry_run=ctx.dry_run)
        taken = self._take_addresses(ctx, spec)
        with _Undoing(self._undo(ctx, taken, ports)):
            if uses_node_ports(spec):
                _new_node_ports(ctx, spec, ports)
            if has_health_port(spec):
                _health_port(spec, ports)
        return self._finish(ctx, taken, [], ports)

    def for_update(self, ctx: RequestContext, service: JSON, old: JSON) -> Finish:
        """The same for a change; what is no longer needed is given back when it has succeeded."""
        spec, before = service["spec"], old["spec"]
        _keep_allocated(spec, before)
        _follow_cluster_ip(spec, before)
        self._families(ctx, spec, before)
        ports = PortOperation(self._ports, dry_run=ctx.dry_run)
        taken, released = self._change_addresses(ctx, spec, before)
        with _Undoing(self._undo(ctx, taken, ports)):
            _change_node_ports(ctx, spec, before, ports)
            if has_health_port(spec) and not has_health_port(before):
                _health_port(spec, ports)
            elif has_health_port(before) and not has_health_port(spec):
                ports.give_back(before.get("healthCheckNodePort") or 0)
        return self._finish(ctx, taken, released, ports)

    def release(self, spec: JSON) -> None:
        """The Service is gone."""
        for address in cluster_ips(spec):
            self._addresses.give_back(address)
        for port in self._held_ports(spec):
            self._ports.give_back(port)

    def restore(self, spec: JSON) -> None:
        """A stored Service has what it has."""
        for address in cluster_ips(spec):
            self._addresses.restore(address)
        for port in self._held_ports(spec):
            self._ports.restore(port)

    @staticmethod
    def _held_ports(spec: JSON) -> list[int]:
        health = spec.get("healthCheckNodePort") if has_health_port(spec) else None
        return [*node_ports(spec), *([health] if health else [])]

    def _undo(self, ctx: RequestContext, taken: list[str], ports: PortOperation) -> Callable[[], None]:
        return lambda: self._finish(ctx, taken, [], ports)(False)

    def _finish(self, ctx: RequestContext, taken: list[str], released: list[str], ports: PortOperation) -> Finish:
        def finish(succeeded: bool) -> None:
            self._give_back(ctx, released if succeeded else taken)
            ports.finish(succeeded)

        return finish

    # --- families

    def _families(self, ctx: RequestContext, spec: JSON, old: JSON) -> None:
        """Fills in ipFamilies and ipFamilyPolicy. `old` is {} on create."""
        if not uses_cluster_ip(spec) or _stays_preferring_both(spec, old):
            return
        selects, headless = bool(spec.get("selector")), spec.get("clusterIP") == NONE
        if spec.get("ipFamilyPolicy") is None:
            policy = _REQUIRE if headless and not selects else _SINGLE
            spec["ipFamilyPolicy"] = old.get("ipFamilyPolicy") or policy
        problems = Problems()
        validate_cluster_ips(problems, spec, old)
        _refuse(ctx, problems)
        if old:
            _release_second(problems, spec, old)
        self._infer(problems, spec)
        _refuse(ctx, problems)
        known = self._addresses.families
        families: list[str] = spec.get("ipFamilies") or []
        if headless and not selects:
            # Whoever writes the endpoints of such a Service may use either family.
            families = families or [known[0]]
            spec["ipFamilies"] = families if spec["ipFamilyPolicy"] == _SINGLE else _both(families)
            return
        if spec["ipFamilyPolicy"] == _REQUIRE and len(known) < 2:
            detail = "this cluster is not configured for dual-stack services"
            problems.invalid("spec.ipFamilyPolicy", _REQUIRE, detail)
        for index, family in enumerate(families):
            if family not in known:
                problems.invalid(f"spec.ipFamilies[{index}]", family, "not configured on this cluster")
        _refuse(ctx, problems)
        families = families or [known[0]]
        both = len(known) > 1 and spec["ipFamilyPolicy"] != _SINGLE
        spec["ipFamilies"] = _both(families) if both else families

    def _infer(self, problems: Problems, spec: JSON) -> None:
        """Families that addresses tell of and nobody has named."""
        addresses, families = spec.get("clusterIPs") or [], list(spec.get("ipFamilies") or [])
        if spec["ipFamilyPolicy"] == _SINGLE:
            for held, what in ((addresses, "cluster IPs"), (families, "IP families")):
                if len(held) == 2:
                    detail = f"must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
                    problems.invalid("spec.ipFamilyPolicy", _SINGLE, detail)
        for index, address in enumerate(addresses):
            if address == NONE:
                break
            if index >= len(families):
                family = family_of(address)
                if family in self._addresses.families:
                    families.append(family)
                else:
                    detail = f"{family} is not configured on this cluster"
                    problems.invalid(f"spec.clusterIPs[{index}]", addresses, detail)
        if families:
            spec["ipFamilies"] = families

    # --- addresses

    def _take_addresses(self, ctx: RequestContext, spec: JSON) -> list[str]:
        """Addresses for all families of a Service, those it names and others where it names none; returns them."""
        addresses = list(spec.get("clusterIPs") or [])
        if not uses_cluster_ip(spec) or addresses[:1] == [NONE]:
            return []
        return self._take_from(ctx, spec, 0)

    def _take_from(self, ctx: RequestContext, spec: JSON, first: int) -> list[str]:
        """Those of the families from the `first` on, written into the Service, whose others it has."""
        families: list[str] = spec["ipFamilies"]
        listed = list(spec.get("clusterIPs") or [])
        listed += [""] * (len(families) - len(listed))
        taken: list[str] = []
        with _Undoing(lambda: self._give_back(ctx, taken)):
            for index, family in enumerate(families[first:], first):
                given = self._take(ctx, family, listed[index], shown=listed)
                taken.append(given)
        spec["clusterIPs"] = [*listed[:first], *taken]
        spec["clusterIP"] = spec["clusterIPs"][0]
        return taken

    def _take(self, ctx: RequestContext, family: str, wanted: str, *, shown: list[str]) -> str:
        """A certain address, or any where none is wanted. StatusError."""
        pool = self._addresses.of(family)
        try:
            if not wanted:
                return pool.any_unused() if ctx.dry_run else pool.take_any()
            if ctx.dry_run:
                pool.check(wanted)
            else:
                pool.take(wanted)
        except RangeFull as error:
            raise internal_error(f"failed to allocate a serviceIP: {error}") from error
        except AllocationError as error:
            what = f"IP {wanted}" if wanted else "IP"
            cause = FieldError.invalid("spec.clusterIPs", shown, f"failed to allocate {what}: {error}")
            raise invalid("Service", ctx.name, [cause]) from error
        return wanted

    def _give_back(self, ctx: RequestContext, addresses: list[str]) -> None:
        if not ctx.dry_run:
            for address in addresses:
                self._addresses.give_back(address)

    def _change_addresses(self, ctx: RequestContext, spec: JSON, old: JSON) -> tuple[list[str], list[str]]:
        """(taken, no longer needed)"""
        if not uses_cluster_ip(old):
            return self._take_addresses(ctx, spec), []
        if _stays_preferring_both(spec, old) or old.get("clusterIPs") == [NONE]:
            return [], []
        if not uses_cluster_ip(spec):
            return [], cluster_ips(old)
        families, before = len(spec.get("ipFamilies") or []), len(old.get("ipFamilies") or [])
        if (before, families) == (1, 2):
            return self._take_from(ctx, spec, 1), []
        return [], cluster_ips(old)[1:] if (before, families) == (2, 1) else []


class _Undoing:
    """Undoes what was taken when what follows fails."""

    def __init__(self, undo: Callable[[], None]) -> None:
        self._undo = undo

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._undo()


def _refuse(ctx: RequestContext, problems: Problems) -> None:
    if problems:
        raise invalid("Service", ctx.name, problems)


def _both(families: list[str]) -> list[str]:
    """With the other one after a single family."""
    return families if len(families) > 1 else [*families, *(one for one in FAMILIES if one != families[0])]


def _stays_preferring_both(spec: JSON, old: JSON) -> bool:
    """A Service that prefers both families is left as it is until somebody changes something of that."""
    return (
        spec.get("ipFamilyPolicy") == _PREFER
        and old.get("ipFamilyPolicy") in (None, _PREFER)
        and spec.get("type") == old.get("type")
        and spec.get("type") in ("ClusterIP", "NodePort", "LoadBalancer")
        and (spec.get("clusterIPs") or []) == (old.get("clusterIPs") or [])
        and (spec.get("ipFamilies") or []) == (old.get("ipFamilies") or [])
    )


def _release_second(problems: Problems, spec: JSON, old: JSON) -> None:
    """One family is enough from now on: the second goes, if it is no more wanted."""
    for field, what in (("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")):
        new, before = spec.get(field) or [], old.get(field) or []
        if spec["ipFamilyPolicy"] == _SINGLE:
            if new == before and len(new) > 1:
                spec[field] = new[:1]
        elif new and len(new) < len(before):
            detail = f"must be 'SingleStack' to release the secondary {what}"
            problems.invalid("spec.ipFamilyPolicy", spec["ipFamilyPolicy"], detail)


# --- node ports


def _refused_port(ctx: RequestContext, index: int, port: int, error: AllocationError) -> StatusError:
    cause = FieldError.invalid(f"spec.ports[{index}].nodePort", port, str(error))
    return invalid("Service", ctx.name, [cause])


def _picked(ports: PortOperation) -> int:
    try:
        return ports.take_any()
    except AllocationError as error:
        raise internal_error(f"failed to allocate a nodePort: {error}") from error


def _new_node_ports(ctx: RequestContext, spec: JSON, ports: PortOperation) -> None:
    """One node port for each port; protocols of one port share it, as DNS wants."""
    listed, by_number, asked = spec.get("ports") or [], dict[int, int](), dict[int, int]()
    for port in listed:
        if port.get("nodePort"):
            asked.setdefault(port.get("port") or 0, port["nodePort"])
    for index, port in enumerate(listed):
        wanted, number = port.get("nodePort") or 0, port.get("port") or 0
        if not wanted and not _picks_node_ports(spec):
            continue
        shared = by_number.get(number)
        if shared is not None and wanted in (0, shared):
            port["nodePort"] = shared
            continue
        if shared is None:
            # The first of a port takes what any of them asks for.
            wanted = asked.get(number, 0)
        try:
            if wanted:
                ports.take(wanted)
            else:
                wanted = _picked(ports)
        except AllocationError as error:
            raise _refused_port(ctx, index, wanted, error) from error
        if shared is None:
            by_number[number] = port["nodePort"] = wanted


def _change_node_ports(ctx: RequestContext, spec: JSON, old: JSON, ports: PortOperation) -> None:
    held = node_ports(old)
    if not uses_node_ports(spec):
        if uses_node_ports(old):
            for number in held:
                ports.give_back(number)
        return
    taken: set[int] = set()
    used: set[tuple[str, int]] = set()
    for index, port in enumerate(spec.get("ports") or []):
        wanted, protocol = port.get("nodePort") or 0, port.get("protocol") or ""
        if not wanted and not _picks_node_ports(spec):
            continue
        if not wanted:
            port["nodePort"] = wanted = _picked(ports)
        elif wanted not in held and wanted not in taken:
            try:
                ports.take(wanted)
            except AllocationError as error:
                raise _refused_port(ctx, index, wanted, error) from error
            taken.add(wanted)
        if (protocol, wanted) in used:
            # As upstream: no field of the object is named.
            raise StatusError(500, "", f"duplicate nodePort: {{{protocol} {wanted}}}")
        used.add((protocol, wanted))
    for number in set(held) - set(node_ports(spec)):
        ports.give_back(number)


def _health_port(spec: JSON, ports: PortOperation) -> None:
    """Raises 500: as upstream, no field is at fault."""
    wanted = spec.get("healthCheckNodePort") or 0
    try:
        if wanted:
            ports.take(wanted)
        else:
            spec["healthCheckNodePort"] = ports.take_any()
    except AllocationError as error:
        what = f"requested HealthCheck NodePort {wanted}" if wanted else "a HealthCheck NodePort 0"
        raise internal_error(f"failed to allocate {what}: {error}") from error


# --- what a client has left out


def _keep_allocated(spec: JSON, old: JSON) -> None:
    """What the cluster gave a Service stays its own when a client writes the object without it."""
    if uses_cluster_ip(old) and uses_cluster_ip(spec):
        if not spec.get("clusterIP") and old.get("clusterIP"):
            spec["clusterIP"] = old["clusterIP"]
        if not spec.get("clusterIPs") and old.get("clusterIPs"):
            spec["clusterIPs"] = list(old["clusterIPs"])
    if all(uses_node_ports(one) and _picks_node_ports(one) for one in (spec, old)):
        used = set(node_ports(old)) & set(node_ports(spec))
        by_name = {port.get("name") or "": port.get("nodePort") or 0 for port in old.get("ports") or []}
        for port in spec.get("ports") or []:
            kept = by_name.get(port.get("name") or "", 0)
            if not port.get("nodePort") and kept and kept not in used:
                port["nodePort"] = kept
    health = old.get("healthCheckNodePort")
    if health and has_health_port(spec) and has_health_port(old) and not spec.get("healthCheckNodePort"):
        spec["healthCheckNodePort"] = health


def _follow_cluster_ip(spec: JSON, old: JSON) -> None:
    """clusterIP and clusterIPs[0] are one thing: clients that know only the first change only that."""
    one, listed = spec.get("clusterIP") or "", spec.get("clusterIPs") or []
    one_before, listed_before = old.get("clusterIP") or "", old.get("clusterIPs") or []
    if listed_before and not listed and one == one_before:
        spec["clusterIPs"] = listed = list(listed_before)
    if one != one_before and listed == listed_before:
        if one_before and not one:
            spec.pop("clusterIPs", None)
        else:
            spec["clusterIPs"] = [one]
