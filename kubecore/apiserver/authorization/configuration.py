"""Reads an AuthorizationConfiguration, as `--authorization-config` takes it.

After upstream pkg/kubeapiserver/authorizer/config.go and k8s.io/apiserver pkg/apis/apiserver/validation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubecore import _native
from kubecore.api import durations
from kubecore.api.configuration_file import InvalidConfiguration, read
from kubecore.api.errors import Cause, FieldError, aggregated
from kubecore.api.kubeconfig import Kubeconfig
from kubecore.apiserver.authorization.options import WebhookOptions
from kubecore.apiserver.authorization.webhook import VERSIONS, WebhookTerms
from kubecore.apiserver.registry.validation import names

JSON = dict[str, Any]

KIND = "AuthorizationConfiguration"
API_VERSIONS = tuple(f"apiserver.config.k8s.io/{version}" for version in ("v1", "v1beta1", "v1alpha1"))
MODES = ("ABAC", "AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook")
_IN_CLUSTER, _KUBECONFIG = "InClusterConfig", "KubeConfigFile"
_MOST_CONDITIONS = 64
_LONGEST_SECONDS = 30.0
_FIELDS = {
    "authorizers": [
        {
            "type": str,
            "name": str,
            "webhook": {
                "authorizedTTL": str,
                "cacheAuthorizedRequests": bool,
                "unauthorizedTTL": str,
                "cacheUnauthorizedRequests": bool,
                "timeout": str,
                "subjectAccessReviewVersion": str,
                "matchConditionSubjectAccessReviewVersion": str,
                "failurePolicy": str,
                "connectionInfo": {"type": str, "kubeConfigFile": str},
                "matchConditions": [{"expression": str}],
            },
        }
    ]
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSpec:
    """One webhook: its terms, how it is reached, and how long in seconds it may take."""

    terms: WebhookTerms
    connection: Kubeconfig
    timeout: float


@dataclass(frozen=True, slots=True)
class Configured:
    """Modes in their order, and the webhooks that those of this name stand for."""

    modes: tuple[str, ...]
    webhooks: tuple[WebhookSpec, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Of the modes, as metrics have them: webhooks have names of their own, any other mode has its type's."""
        of_webhooks = (spec.terms.name for spec in self.webhooks)
        return tuple(next(of_webhooks) if mode == "Webhook" else mode.lower() for mode in self.modes)


def of_flags(modes: Sequence[str], webhook: WebhookOptions) -> Configured:
    """As `--authorization-mode` and `--authorization-webhook-*` say. Raises InvalidConfiguration, OSError."""
    if "Webhook" not in modes:
        return Configured(tuple(modes))
    if webhook.version not in VERSIONS:
        raise InvalidConfiguration(f'unsupported authorization webhook version "{webhook.version}"')
    assert webhook.config_file is not None
    terms = WebhookTerms(
        name="default",
        version=webhook.version,
        authorized_ttl=webhook.authorized_ttl,
        unauthorized_ttl=webhook.unauthorized_ttl,
    )
    spec = WebhookSpec(terms=terms, connection=_kubeconfig(webhook.config_file), timeout=_LONGEST_SECONDS)
    return Configured(tuple(modes), (spec,))


def load(text: str, *, required: Iterable[str] = ()) -> Configured:
    """From YAML or JSON; `required` are the modes besides webhooks that there were at the start, which must stay, and
    no others may come. Raises InvalidConfiguration, OSError."""
    given = read(text, KIND, dict.fromkeys(API_VERSIONS, _FIELDS))
    authorizers = given.get("authorizers") or []
    for index, one in enumerate(authorizers):
        if one.get("webhook"):
            authorizers[index] = {**one, "webhook": _defaulted(one["webhook"])}
    if causes := _problems(authorizers):
        told = [str(cause) for cause in causes]
        raise InvalidConfiguration(aggregated(told))
    modes = tuple(one["type"] for one in authorizers)
    _check_modes(authorizers, modes, tuple(required))
    return Configured(modes, tuple(_spec(one) for one in authorizers if one["type"] == "Webhook"))


_DEFAULTS = {
    "authorizedTTL": "5m",
    "cacheAuthorizedRequests": True,
    "unauthorizedTTL": "30s",
    "cacheUnauthorizedRequests": True,
}


def _defaulted(webhook: JSON) -> JSON:
    """As upstream: no time at all is as good as none named."""
    said = {key: value for key, value in webhook.items() if not (key.endswith("edTTL") and _is_no_time(value))}
    return {**_DEFAULTS, **said}


def _is_no_time(text: str) -> bool:
    try:
        return durations.seconds(text) == 0
    except ValueError:
        return False


def _check_modes(authorizers: Sequence[JSON], modes: Sequence[str], required: Sequence[str]) -> None:
    wrong = [
        f"expected name {one['type'].lower()} for authorizer {one['type']} instead of {one['name']}"
        for one in authorizers
        if one["type"] not in ("Webhook", "") and one["name"] != one["type"].lower()
    ]
    if required:
        if missing := sorted(set(required) - set(modes)):
            wrong.append(f"missing required types: [{' '.join(missing)}]")
        wrong += [
            f"authorizer type {mode} is not allowed if it was not enabled at initial server startup"
            for mode in sorted({*modes} - {*required, "Webhook", "AlwaysAllow", "AlwaysDeny"})
        ]
    if wrong:
        raise InvalidConfiguration(aggregated(wrong))


def _problems(authorizers: Sequence[JSON]) -> list[Cause]:
    if not authorizers:
        return [FieldError.required("authorizers", "at least one authorization mode must be defined")]
    causes: list[Cause] = []
    types: list[str] = []
    seen: list[str] = []
    for index, one in enumerate(authorizers):
        path, kind, name = f"authorizers[{index}]", one.get("type") or "", one.get("name") or ""
        if kind not in MODES:
            not_supported = FieldError.not_supported(f"{path}.type", kind, MODES)
            causes.append(not_supported if kind else FieldError.required(f"{path}.type"))
            continue
        if kind in types and kind != "Webhook":
            causes.append(FieldError.duplicate(f"{path}.type", kind))
            continue
        types.append(kind)
        causes += _name_problems(name, seen, f"{path}.name")
        seen.append(name)
        webhook = one.get("webhook")
        if kind != "Webhook" and webhook is not None:
            causes.append(FieldError.invalid(f"{path}.webhook", "non-null", "may only be specified when type=Webhook"))
        elif kind == "Webhook" and webhook is None:
            causes.append(FieldError.required(f"{path}.webhook", "required when type=Webhook"))
        elif webhook is not None:
            causes += _webhook_problems(webhook, path)
    return causes


def _name_problems(name: str, seen: Sequence[str], path: str) -> list[Cause]:
    if not name:
        return [FieldError.required(path)]
    if name in seen:
        return [FieldError.duplicate(path, name)]
    if problems := names.dns_subdomain(name):
        return [FieldError.invalid(path, name, f"authorizer name is invalid: {', '.join(problems)}")]
    return []


def _webhook_problems(webhook: JSON, path: str) -> list[Cause]:
    causes = [
        *_duration_problems(webhook, "timeout", path, most=_LONGEST_SECONDS),
        *_duration_problems(webhook, "authorizedTTL", path),
        *_duration_problems(webhook, "unauthorizedTTL", path),
        *_choice_problems(webhook.get("subjectAccessReviewVersion"), VERSIONS, f"{path}.subjectAccessReviewVersion"),
    ]
    wanted = f"{path}.matchConditionSubjectAccessReviewVersion"
    version = webhook.get("matchConditionSubjectAccessReviewVersion")
    if version:
        causes += _choice_problems(version, ("v1",), wanted)
    elif webhook.get("matchConditions"):
        causes.append(FieldError.required(wanted, "required if match conditions are specified"))
    causes += _choice_problems(webhook.get("failurePolicy"), ("NoOpinion", "Deny"), f"{path}.failurePolicy")
    causes += _connection_problems(webhook.get("connectionInfo") or {}, f"{path}.connectionInfo")
    return causes + _condition_problems(webhook.get("matchConditions") or [], f"{path}.matchConditions")


def _choice_problems(value: str | None, choices: Sequence[str], path: str) -> list[Cause]:
    if not value:
        return [FieldError.required(path)]
    return [] if value in choices else [FieldError.not_supported(path, value, choices)]


def _duration_problems(webhook: JSON, field: str, path: str, *, most: float | None = None) -> list[Cause]:
    path, text = f"{path}.{field}", webhook.get(field) or ""
    try:
        seconds = durations.seconds(text) if text else 0.0
    except ValueError as error:
        return [FieldError.invalid(path, text, str(error))]
    if not seconds:
        return [FieldError.required(path)]
    if most is not None and not 0 < seconds <= most:
        return [FieldError.invalid(path, text, f"must be > 0s and <= {most:.0f}s")]
    return [FieldError.invalid(path, text, "must be > 0s")] if seconds < 0 else []


def _connection_problems(connection: JSON, path: str) -> list[Cause]:
    kind, file = connection.get("type") or "", connection.get("kubeConfigFile") or ""
    if not kind:
        return [FieldError.required(f"{path}.type")]
    if kind == _IN_CLUSTER:
        # Of other API servers only: this one would ask itself.
        return [FieldError.invalid(f"{path}.type", kind, "is not allowed for kube-apiserver")]
    if kind != _KUBECONFIG:
        return [FieldError.not_supported(f"{path}.type", kind, (_IN_CLUSTER, _KUBECONFIG))]
    path = f"{path}.kubeConfigFile"
    if not file:
        return [FieldError.required(path)]
    if not Path(file).is_absolute():
        return [FieldError.invalid(path, file, "must be an absolute path")]
    if not Path(file).exists():
        return [FieldError.invalid(path, file, f"error loading file: stat {file}: no such file or directory")]
    return [] if Path(file).is_file() else [FieldError.invalid(path, file, "must be a regular file")]


def _condition_problems(conditions: Sequence[JSON], path: str) -> list[Cause]:
    if len(conditions) > _MOST_CONDITIONS:
        return [FieldError.too_many(path, len(conditions), _MOST_CONDITIONS)]
    causes: list[Cause] = []
    seen: list[str] = []
    for index, condition in enumerate(conditions):
        where, source = f"{path}[{index}].expression", condition.get("expression") or ""
        if not source.strip():
            causes.append(FieldError.required(where))
        elif source in seen:
            causes.append(FieldError.duplicate(where, source))
        else:
            seen.append(source)
            try:
                _native.IdentityExpression("request", source, condition=True)
            except ValueError as error:
                causes.append(FieldError.invalid(where, source, str(error)))
    return causes


def _spec(authorizer: JSON) -> WebhookSpec:
    webhook = authorizer["webhook"]
    sources = [one["expression"] for one in webhook.get("matchConditions") or []]
    terms = WebhookTerms(
        name=authorizer["name"],
        version=webhook["subjectAccessReviewVersion"],
        authorized_ttl=_remembered(webhook, "authorizedTTL", "cacheAuthorizedRequests"),
        unauthorized_ttl=_remembered(webhook, "unauthorizedTTL", "cacheUnauthorizedRequests"),
        denies_on_failure=webhook["failurePolicy"] == "Deny",
        conditions=[_native.IdentityExpression("request", one, condition=True) for one in sources],
    )
    connection = _kubeconfig(Path(webhook["connectionInfo"]["kubeConfigFile"]))
    return WebhookSpec(terms=terms, connection=connection, timeout=durations.seconds(webhook["timeout"]))


def _remembered(webhook: JSON, ttl: str, flag: str) -> float:
    return durations.seconds(webhook[ttl]) if webhook[flag] else 0.0


def _kubeconfig(file: Path) -> Kubeconfig:
    try:
        return Kubeconfig.load(file)
    except ValueError as error:
        raise InvalidConfiguration(str(error)) from None
