"""Claims to devices, and what they were given. After kubernetes `pkg/apis/resource/validation/validation.go`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from kubecore.apiserver.registry.equality import same
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.conditions import validate_conditions
from kubecore.apiserver.registry.validation.devices import (
    named,
    validate_attribute_name,
    validate_configuration,
    validate_each,
    validate_pool_name,
    validate_raw,
    validate_selectors,
)
from kubecore.apiserver.registry.validation.labels import validate_node_selector
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.volume_sources import validate_driver_name

JSON = dict[str, Any]
# What a request is called -> its alternatives.
Requests = Mapping[str, frozenset[str]]

_REQUESTS, _CONSTRAINTS, _CONFIGS, _ALTERNATIVES = 32, 32, 32, 8
_RESULTS, _RESERVATIONS, _CONDITIONS, _DATA = 32, 256, 8, 10 * 1024
_ADDRESSES, _INTERFACE, _HARDWARE = 16, 256, 128
_MODES = ("All", "ExactCount")
_ONE_KIND = "exactly one of `exactly` or `firstAvailable` is required"
_NOT_A_REQUEST = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"


def default_claim(spec: JSON) -> None:
    """One device, unless it is said how many."""
    for request in (spec.get("devices") or {}).get("requests") or []:
        exactly = request.get("exactly")
        for one in [*([exactly] if exactly is not None else []), *(request.get("firstAvailable") or [])]:
            one["allocationMode"] = one.get("allocationMode") or "ExactCount"
            if one["allocationMode"] == "ExactCount":
                one["count"] = one.get("count") or 1


def drop_unsupported(spec: JSON) -> None:
    """Of features that v1.35 does not switch on."""
    devices = spec.get("devices") or {}
    for constraint in devices.get("constraints") or []:
        constraint.pop("distinctAttribute", None)
    for request in devices.get("requests") or []:
        for one in [request.get("exactly") or {}, *(request.get("firstAvailable") or [])]:
            one.pop("tolerations", None)
            one.pop("capacity", None)


# --- what is claimed


def validate_claim(problems: Problems, spec: JSON, path: str) -> None:
    devices, path = spec.get("devices") or {}, f"{path}.devices"
    known = request_names(spec)
    request = partial(_request, problems)
    validate_each(problems, devices.get("requests") or [], f"{path}.requests", request, most=_REQUESTS, key=named)

    def constraint(one: JSON, path: str) -> None:
        _request_references(problems, one, path, known)
        if one.get("matchAttribute") is None:
            problems.required(f"{path}.matchAttribute")
        else:
            validate_attribute_name(problems, one["matchAttribute"], f"{path}.matchAttribute", qualified=True)

    def config(one: JSON, path: str) -> None:
        _request_references(problems, one, path, known)
        validate_configuration(problems, one, path)

    validate_each(problems, devices.get("constraints") or [], f"{path}.constraints", constraint, most=_CONSTRAINTS)
    validate_each(problems, devices.get("config") or [], f"{path}.config", config, most=_CONFIGS)


def admin_requests(spec: JSON) -> list[int]:
    """Indexes of the requests for access to devices that others use."""
    requests = (spec.get("devices") or {}).get("requests") or []
    return [index for index, one in enumerate(requests) if (one.get("exactly") or {}).get("adminAccess")]


def request_names(spec: JSON) -> Requests:
    requests = (spec.get("devices") or {}).get("requests") or []
    return {named(one): frozenset(named(other) for other in one.get("firstAvailable") or []) for one in requests}


def _request(problems: Problems, request: JSON, path: str) -> None:
    problems.check(f"{path}.name", named(request), names.dns_label)
    exactly, alternatives = request.get("exactly"), request.get("firstAvailable") or []
    if exactly is None and not alternatives:
        problems.required(path, _ONE_KIND)
    elif exactly is not None and alternatives:
        problems.invalid(path, None, f"{_ONE_KIND}, but multiple fields are set")
    elif exactly is not None:
        _exact(problems, exactly, f"{path}.exactly")
    else:
        check = partial(_alternative, problems)
        validate_each(problems, alternatives, f"{path}.firstAvailable", check, most=_ALTERNATIVES, key=named)


def _alternative(problems: Problems, request: JSON, path: str) -> None:
    problems.check(f"{path}.name", named(request), names.dns_label)
    _exact(problems, request, path)


def _exact(problems: Problems, request: JSON, path: str) -> None:
    problems.check_needed(f"{path}.deviceClassName", request.get("deviceClassName"), names.dns_subdomain)
    validate_selectors(problems, request.get("selectors") or [], f"{path}.selectors")
    mode, count = request.get("allocationMode") or "", request.get("count") or 0
    if mode not in _MODES:
        problems.unsupported(f"{path}.allocationMode", mode, _MODES)
    elif mode == "All" and count != 0:
        problems.invalid(f"{path}.count", count, f"must not be specified when allocationMode is '{mode}'")
    elif mode == "ExactCount" and count <= 0:
        problems.invalid(f"{path}.count", count, names.POSITIVE)


def _request_references(problems: Problems, holder: JSON, path: str, known: Requests) -> None:
    def check(name: str, path: str) -> None:
        _request_reference(problems, name, path, known)

    references = holder.get("requests") or []
    validate_each(problems, references, f"{path}.requests", check, most=_REQUESTS, key=_itself)


def _itself(item: str) -> str:
    return item


def _request_reference(problems: Problems, name: str, path: str, known: Requests) -> None:
    """A request, or one of its alternatives: `request/alternative`."""
    parts = name.split("/")
    if len(parts) > 2:
        problems.invalid(path, name, _NOT_A_REQUEST)
        return
    for part in parts:
        problems.check(path, part, names.dns_label)
    if parts[0] not in known or not set(parts[1:]) <= known[parts[0]]:
        problems.invalid(path, name, _NOT_A_REQUEST)


# --- what was given


def prepare_claim_status(status: JSON, old: JSON) -> None:
    """Drops what v1.35 does not switch on, and what is told of devices that were given back."""
    for result in _results(status):
        for field in ("shareID", "consumedCapacity", "bindingConditions", "bindingFailureConditions"):
            result.pop(field, None)
    devices = status.get("devices") or []
    for device in devices:
        device.pop("shareID", None)
    returned = {_device_id(one) for one in _results(old)} - {_device_id(one) for one in _results(status)}
    status["devices"] = [one for one in devices if _device_id(one) not in returned]
    if not status["devices"]:
        del status["devices"]


def _results(status: JSON) -> list[JSON]:
    return ((status.get("allocation") or {}).get("devices") or {}).get("results") or []


def _device(holder: JSON) -> JSON:
    """What says which device it is."""
    return {field: holder.get(field) or "" for field in ("driver", "pool", "device")}


def _device_id(holder: JSON) -> str:
    return "/".join(_device(holder).values())


def admin_results(status: JSON) -> list[int]:
    """Indexes of the results that give access to devices that others use."""
    return [index for index, one in enumerate(_results(status)) if one.get("adminAccess")]


def validate_claim_status(problems: Problems, status: JSON, old: JSON, known: Requests, *, deleted: bool) -> None:
    """`known` are the claim's requests; `deleted`: the claim is going away."""
    reserved, allocation, before = status.get("reservedFor") or [], status.get("allocation"), old.get("allocation")
    path = "status.reservedFor"
    consumer = partial(_consumer, problems)
    validate_each(problems, reserved, path, consumer, most=_RESERVATIONS, key=lambda one: one.get("uid") or "")
    given = {_device_id(one) for one in _results(status)}

    told: set[str] = set()
    for index, device in enumerate(status.get("devices") or []):
        where, name = f"status.devices[{index}]", _device_id(device)
        _device_status(problems, device, where, given=name in given)
        if name in told:
            problems.duplicate(where, _device(device))
        told.add(name)
    if reserved and allocation is None:
        problems.forbidden(path, "may not be specified when `allocated` is not set")
    elif deleted and any(one not in (old.get("reservedFor") or []) for one in reserved):
        going = "while `deallocationRequested` or `deletionTimestamp` are set"
        problems.forbidden(path, f"new entries may not be added {going}")
    if allocation is not None and before is not None:
        if not same(allocation, before):
            problems.invalid("status.allocation", allocation, names.IMMUTABLE)
    elif allocation is not None:
        _allocation(problems, allocation, "status.allocation", known)


def _consumer(problems: Problems, consumer: JSON, path: str) -> None:
    problems.need(path, consumer, "resource", "name", "uid")


def _allocation(problems: Problems, allocation: JSON, path: str, known: Requests) -> None:
    devices = allocation.get("devices") or {}

    def result(one: JSON, path: str) -> None:
        _request_reference(problems, one.get("request") or "", f"{path}.request", known)
        _validate_device(problems, one, path)

    def config(one: JSON, path: str) -> None:
        sources = ("FromClaim", "FromClass")
        problems.one_of(f"{path}.source", one.get("source"), sources, required=True)
        _request_references(problems, one, path, known)
        validate_configuration(problems, one, path)

    validate_each(problems, devices.get("results") or [], f"{path}.devices.results", result, most=_RESULTS)
    validate_each(problems, devices.get("config") or [], f"{path}.devices.config", config, most=2 * _CONFIGS)
    if allocation.get("nodeSelector") is not None:
        validate_node_selector(problems, allocation["nodeSelector"], f"{path}.nodeSelector")


def _validate_device(problems: Problems, holder: JSON, path: str) -> None:
    validate_driver_name(problems, holder.get("driver"), f"{path}.driver")
    validate_pool_name(problems, holder.get("pool") or "", f"{path}.pool")
    problems.check(f"{path}.device", holder.get("device") or "", names.dns_label)


def _device_status(problems: Problems, device: JSON, path: str, *, given: bool) -> None:
    _validate_device(problems, device, path)
    if not given:
        problems.invalid(path, _device(device), "must be an allocated device in the claim")
    conditions = device.get("conditions") or []
    if len(conditions) > _CONDITIONS:
        problems.too_many(f"{path}.conditions", len(conditions), _CONDITIONS)
    validate_conditions(problems, conditions, f"{path}.conditions")
    if device.get("data") is not None:
        validate_raw(problems, device["data"], f"{path}.data", _DATA)
    network, path = device.get("networkData") or {}, f"{path}.networkData"
    for field, most in (("interfaceName", _INTERFACE), ("hardwareAddress", _HARDWARE)):
        if len((network.get(field) or "").encode()) > most:
            problems.too_long(f"{path}.{field}", most)
    address = partial(_interface_address, problems)
    validate_each(problems, network.get("ips") or [], f"{path}.ips", address, most=_ADDRESSES, key=_itself)


def _interface_address(problems: Problems, text: str, path: str) -> None:
    """An address with the length of its network's prefix, in the one form there is."""
    try:
        found = ipaddress.ip_interface(text) if _CIDR_RE.fullmatch(text) else None
    except ValueError:
        found = None
    if found is None:
        problems.invalid(path, text, "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)")
    elif str(found) != text:
        problems.invalid(path, text, f'must be in canonical form ("{found}")')


_CIDR_RE = re.compile("[^/%]+/[0-9]+")
