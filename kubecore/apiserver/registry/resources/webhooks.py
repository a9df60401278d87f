"""MutatingWebhookConfigurations and ValidatingWebhookConfigurations."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.resources.generation import ContentGeneration
from kubecore.apiserver.registry.strategy import RequestContext
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.labels import validate_label_selector
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_SECONDS, _HTTPS = 10, 443
_REVIEW_VERSIONS = ("v1", "v1beta1")
_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")


class ValidatingWebhookConfigurationStrategy(ContentGeneration):
    resource_key = "validatingwebhookconfigurations.admissionregistration.k8s.io"
    allow_unconditional_update = False
    mutating = False

    def default(self, obj: JSON) -> None:
        for webhook in obj.get("webhooks") or []:
            webhook["failurePolicy"] = webhook.get("failurePolicy") or "Fail"
            webhook["matchPolicy"] = webhook.get("matchPolicy") or "Equivalent"
            for field in ("namespaceSelector", "objectSelector"):
                if webhook.get(field) is None:
                    webhook[field] = {}
            if webhook.get("timeoutSeconds") is None:
                webhook["timeoutSeconds"] = _SECONDS
            if self.mutating:
                webhook["reinvocationPolicy"] = webhook.get("reinvocationPolicy") or "Never"
            service = (webhook.get("clientConfig") or {}).get("service")
            if service is not None and service.get("port") is None:
                service["port"] = _HTTPS
            for rule in webhook.get("rules") or []:
                rule["scope"] = rule.get("scope") or "*"

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        taken: set[str] = set()
        for index, webhook in enumerate(obj.get("webhooks") or []):
            path, name = f"webhooks[{index}]", webhook.get("name") or ""
            _name(problems, name, f"{path}.name")
            if name in taken:
                problems.duplicate(f"{path}.name", name)
            taken.add(name)
            _webhook(problems, webhook, path)
        return problems


class MutatingWebhookConfigurationStrategy(ValidatingWebhookConfigurationStrategy):
    resource_key = "mutatingwebhookconfigurations.admissionregistration.k8s.io"
    mutating = True


def _name(problems: Problems, name: str, path: str) -> None:
    """A fully qualified name: a subdomain of at least three parts."""
    if not name:
        problems.required(path)
        return
    problems.check(path, name, names.dns_subdomain)
    if name.count(".") < 2:
        problems.invalid(path, name, "should be a domain with at least three segments separated by dots")


def _webhook(problems: Problems, webhook: JSON, path: str) -> None:
    problems.one_of(f"{path}.failurePolicy", webhook.get("failurePolicy"), ("Fail", "Ignore"))
    problems.one_of(f"{path}.matchPolicy", webhook.get("matchPolicy"), ("Equivalent", "Exact"))
    problems.one_of(f"{path}.reinvocationPolicy", webhook.get("reinvocationPolicy"), ("IfNeeded", "Never"))
    effects = webhook.get("sideEffects")
    if effects is None:
        problems.required(f"{path}.sideEffects", "must specify one of None, NoneOnDryRun")
    elif effects not in ("None", "NoneOnDryRun"):
        problems.unsupported(f"{path}.sideEffects", effects, ("None", "NoneOnDryRun"))
    problems.between(f"{path}.timeoutSeconds", webhook.get("timeoutSeconds"), 1, 30)
    versions = webhook.get("admissionReviewVersions") or []
    if not versions:
        problems.required(f"{path}.admissionReviewVersions", "must specify one of v1, v1beta1")
    elif not set(versions) & set(_REVIEW_VERSIONS):
        detail = "must include at least one of v1, v1beta1"
        problems.invalid(f"{path}.admissionReviewVersions", versions, detail)
    for field in ("namespaceSelector", "objectSelector"):
        validate_label_selector(problems, webhook.get(field), f"{path}.{field}")
    _client_config(problems, webhook.get("clientConfig") or {}, f"{path}.clientConfig")
    for index, rule in enumerate(webhook.get("rules") or []):
        validate_rule(problems, rule, f"{path}.rules[{index}]")


def _client_config(problems: Problems, config: JSON, path: str) -> None:
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        problems.required(path, "exactly one of url or service is required")
    elif service is None:
        if not str(url).startswith("https://"):
            scheme = str(url).partition("://")[0] if "://" in str(url) else ""
            problems.invalid(f"{path}.url", scheme, "'https' is the only allowed URL scheme")
    else:
        for field in ("name", "namespace"):
            if not service.get(field):
                problems.required(f"{path}.service.{field}", f"service {field} is required")
        problems.port(f"{path}.service.port", service.get("port"))


def validate_rule(problems: Problems, rule: JSON, path: str) -> None:
    """A rule of a webhook or an admission policy."""
    operations = rule.get("operations") or []
    if not operations:
        problems.required(f"{path}.operations")
    if len(operations) > 1 and "*" in operations:
        detail = "if '*' is present, must not specify other operations"
        problems.invalid(f"{path}.operations", operations, detail)
    for index, operation in enumerate(operations):
        if operation not in _OPERATIONS:
            problems.unsupported(f"{path}.operations[{index}]", operation, _OPERATIONS)
    for field, what in (("apiGroups", "API groups"), ("apiVersions", "API versions"), ("resources", "resources")):
        values = rule.get(field) or []
        if not values:
            problems.required(f"{path}.{field}")
        if len(values) > 1 and "*" in values:
            problems.invalid(f"{path}.{field}", values, f"if '*' is present, must not specify other {what}")
    problems.one_of(f"{path}.scope", rule.get("scope"), ("*", "Cluster", "Namespaced"))
