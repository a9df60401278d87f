"""Reads an audit policy (audit.k8s.io/v1): which requests are told of, when, and how much.

After upstream k8s.io/apiserver `pkg/audit/policy/reader.go` and `pkg/apis/audit/validation`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import orjson

from kubecore.api.configuration_file import InvalidConfiguration, checked, misfits, parsed
from kubecore.api.errors import Cause, FieldError, aggregated
from kubecore.apiserver.registry.validation import names

log = logging.getLogger("kubecore.apiserver")

JSON = dict[str, Any]

KIND = "Policy"
LEVELS = ("None", "Metadata", "Request", "RequestResponse")
STAGES = ("RequestReceived", "ResponseStarted", "ResponseComplete", "Panic")
_RULE: JSON = {
    "level": str,
    "users": [str],
    "userGroups": [str],
    "verbs": [str],
    "resources": [{"group": str, "resources": [str], "resourceNames": [str]}],
    "namespaces": [str],
    "nonResourceURLs": [str],
    "omitStages": [str],
    "omitManagedFields": bool,
}
_FIELDS: JSON = {"metadata": dict, "rules": [_RULE], "omitStages": [str], "omitManagedFields": bool}
_VERSION = "audit.k8s.io/v1"


def load(text: str) -> bytes:
    """The policy as JSON, for the front. Fields that there are not are left out with a warning in the log, as upstream
    does; raises InvalidConfiguration for what is wrong otherwise."""
    try:
        given = parsed(text)
    except InvalidConfiguration as error:
        raise InvalidConfiguration(f"failed decoding: {error}") from None
    if not isinstance(given, dict):
        raise InvalidConfiguration("failed decoding: not an object")
    known = {"apiVersion": str, "kind": str, **_FIELDS}
    for told in misfits(given, known, ""):
        if not told.startswith("unknown field"):
            raise InvalidConfiguration(f"failed decoding: {told}")
        log.warning("Audit policy contains errors, falling back to lenient decoding: strict decoding error: %s", told)
    policy = checked(_known(given, known), KIND, {_VERSION: _FIELDS}, shown=text.strip())
    if problems := [str(cause) for cause in _problems(policy)]:
        raise InvalidConfiguration(aggregated(problems))
    if not policy.get("rules"):
        raise InvalidConfiguration("loaded illegal policy with 0 rules")
    return orjson.dumps(_without_nulls(policy))


def _known(value: Any, wanted: Any) -> Any:
    if isinstance(wanted, dict) and isinstance(value, dict):
        return {name: _known(one, wanted[name]) for name, one in value.items() if name in wanted}
    if isinstance(wanted, list) and isinstance(value, list):
        return [_known(one, wanted[0]) for one in value]
    return value


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(one) for name, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value if one is not None] if isinstance(value, list) else value


def _problems(policy: JSON) -> list[Cause]:
    causes = _stage_problems(policy.get("omitStages") or (), "omitStages")
    for index, rule in enumerate(policy.get("rules") or ()):
        causes += _rule_problems(rule, f"rules[{index}]")
    return causes


def _rule_problems(rule: JSON, path: str) -> list[Cause]:
    causes: list[Cause] = []
    level, urls = rule.get("level") or "", rule.get("nonResourceURLs") or ()
    if not level:
        causes.append(FieldError.required(f"{path}.level"))
    elif level not in LEVELS:
        causes.append(FieldError.not_supported(f"{path}.level", level, LEVELS))
    for index, url in enumerate(urls):
        if url == "*":
            continue
        where = f"{path}.nonResourceURLs[{index}]"
        if not url.startswith("/"):
            told = "non-resource URL rules must begin with a '/' character"
            causes.append(FieldError.invalid(where, url, told))
        if "*" in url[:-1]:
            told = "non-resource URL wildcards '*' must be the final character of the rule"
            causes.append(FieldError.invalid(where, url, told))
    for one in rule.get("resources") or ():
        group, named = one.get("group") or "", one.get("resourceNames") or ()
        if group and (wrong := names.dns_subdomain(group)):
            causes.append(FieldError.invalid(f"{path}.resources.group", group, ",".join(wrong)))
        if named and not one.get("resources"):
            told = "using resourceNames requires at least one resource"
            causes.append(FieldError.invalid(f"{path}.resources.resourceNames", named, told))
    causes += _stage_problems(rule.get("omitStages") or (), f"{path}.omitStages")
    if urls and (rule.get("resources") or rule.get("namespaces")):
        told = "rules cannot apply to both regular resources and non-resource URLs"
        causes.append(FieldError.invalid(f"{path}.nonResourceURLs", urls, told))
    return causes


def _stage_problems(stages: Sequence[str], path: str) -> list[Cause]:
    told = f"allowed stages are {','.join(STAGES)}"
    return [
        FieldError.invalid(f"{path}[{index}]", stage, told) for index, stage in enumerate(stages) if stage not in STAGES
    ]
