"""Services' addresses in the cluster: their form, their families, and that they stay.

After kubernetes `pkg/apis/core/validation/validation.go`, ValidateServiceClusterIPsRelatedFields and its relatives.
"""

from __future__ import annotations

from typing import Any

from kubecore.apiserver.registry.validation import addresses
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

NONE = "None"
FAMILIES = ("IPv4", "IPv6")
_FAMILY_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
_FIXED = "may not change once set"


def is_headless(spec: JSON) -> bool:
    return bool(spec.get("clusterIPs") == [NONE])


def family_of(address: str) -> str:
    parsed = addresses.parse_old_ip(address)
    return "unknown" if parsed is None else f"IPv{parsed.version}"


def validate_cluster_ips(problems: Problems, spec: JSON, old: JSON) -> None:
    """`old` is the spec an update replaces, {} on create; addresses of it need not be of today's form."""
    if spec.get("type") == "ExternalName":
        return
    one, listed, path = spec.get("clusterIP") or "", spec.get("clusterIPs") or [], "spec.clusterIPs"
    if one and not listed:
        problems.required(path)
    elif one and listed[0] != one:
        problems.invalid(path, listed, "first value must match `clusterIP`")
    elif listed and not one:
        problems.invalid(path, listed, "must be empty when `clusterIP` is not specified")
    families = spec.get("ipFamilies") or []
    for index, family in enumerate(families):
        where = f"spec.ipFamilies[{index}]"
        if family not in FAMILIES:
            problems.unsupported(where, family, FAMILIES)
        if family in families[:index]:
            problems.duplicate(where, family)
    problems.one_of_if_given("spec.ipFamilyPolicy", spec.get("ipFamilyPolicy"), _FAMILY_POLICIES)
    if _forms(problems, listed, old.get("clusterIPs") or [], path):
        _families(problems, listed, families, path, headless=is_headless(spec))


def _forms(problems: Problems, listed: list[str], old: list[str], path: str) -> bool:
    """Whether all are addresses."""
    right = True
    for index, address in enumerate(listed):
        if index == 0 and address == NONE:
            if len(listed) > 1:
                right = False
                problems.invalid(path, listed, "'None' must be the first and only value")
        elif address not in old and addresses.ip(address):
            right = False
            problems.check(f"{path}[{index}]", address, addresses.ip)
    if len(listed) > 2:
        problems.invalid(path, listed, "may only hold up to 2 values")
    return right


def _families(problems: Problems, listed: list[str], families: list[str], path: str, *, headless: bool) -> None:
    if len(listed) > 1 and len({family_of(address) for address in listed}) < 2:
        problems.invalid(path, listed, "may specify no more than one IP for each IP family")
    if headless:
        return
    for index, (address, family) in enumerate(zip(listed, families, strict=False)):
        if family in FAMILIES and family_of(address) != family:
            detail = f"expected an {family} value as indicated by `ipFamilies[{index}]`"
            problems.invalid(f"{path}[{index}]", address, detail)


def validate_address_changes(problems: Problems, spec: JSON, old: JSON) -> None:
    """Addresses and their families stay, but for a second one, unless the type is or becomes ExternalName."""
    if "ExternalName" in (spec.get("type"), old.get("type")):
        return
    headless, was_headless = is_headless(spec), is_headless(old)
    if not (headless and was_headless):
        _ips_change(problems, spec.get("clusterIPs") or [], old.get("clusterIPs") or [], spec)
    if not headless and not was_headless:
        _families_change(problems, spec.get("ipFamilies") or [], old.get("ipFamilies") or [], spec)


def _ips_change(problems: Problems, new: list[str], old: list[str], spec: JSON) -> None:
    path = "spec.clusterIPs"
    if len(new) == len(old):
        for index, (address, was) in enumerate(zip(new, old, strict=True)):
            if address != was:
                problems.invalid(f"{path}[{index}]", new, _FIXED)
        return
    if not new:
        problems.invalid(f"{path}[0]", new, "primary clusterIP can not be unset")
    elif old and new[0] != old[0]:
        problems.invalid(f"{path}[0]", new, _FIXED)
    if len(old) > len(new) == 1 and spec.get("ipFamilyPolicy") != "SingleStack":
        detail = "must be set to 'SingleStack' when releasing the secondary clusterIP"
        problems.invalid("spec.ipFamilyPolicy", spec.get("ipFamilyPolicy"), detail)


def _families_change(problems: Problems, new: list[str], old: list[str], spec: JSON) -> None:
    path, shown = "spec.ipFamilies", spec.get("clusterIPs") or []
    if len(new) == len(old):
        for family, was in zip(new, old, strict=True):
            if family != was:
                # Upstream means the first whichever it is.
                problems.invalid(f"{path}[0]", new, _FIXED)
        return
    if len(old) > len(new) and not shown:
        problems.invalid(f"{path}[0]", new, "primary ipFamily can not be unset")
    if new and old and new[0] != old[0]:
        problems.invalid(f"{path}[0]", shown, _FIXED)
    if len(old) > len(new) == 1 and spec.get("ipFamilyPolicy") != "SingleStack":
        detail = "must be set to 'SingleStack' when releasing the secondary ipFamily"
        problems.invalid("spec.ipFamilyPolicy", spec.get("ipFamilyPolicy"), detail)
