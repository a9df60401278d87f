"""MutatingWebhookConfigurations and ValidatingWebhookConfigurations."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.resources.generation import ContentGeneration
from kubecore.apiserver.registry.strategy import RequestContext
from kubecore.apiserver.registry.validation.admission_rules import default_rules, default_selectors
from kubecore.apiserver.registry.validation.admission_webhooks import Leniency, leniency, validate_webhooks
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_DEFAULTS: dict[str, Any] = {"failurePolicy": "Fail", "matchPolicy": "Equivalent", "timeoutSeconds": 10}
_HTTPS = 443


class ValidatingWebhookConfigurationStrategy(ContentGeneration):
    resource_key = "validatingwebhookconfigurations.admissionregistration.k8s.io"
    allow_unconditional_update = False
    any_finalizer = True
    defaults = _DEFAULTS

    def default(self, obj: JSON) -> None:
        for webhook in obj.get("webhooks") or []:
            for field, value in self.defaults.items():
                if webhook.get(field) is None:
                    webhook[field] = value
            default_selectors(webhook)
            default_rules(webhook.get("rules"))
            service = (webhook.get("clientConfig") or {}).get("service")
            if service is not None and service.get("port") is None:
                service["port"] = _HTTPS

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        if ctx.operation == "CREATE":
            validate_webhooks(problems, obj.get("webhooks") or [], Leniency())
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems, webhooks = Problems(), obj.get("webhooks") or []
        validate_webhooks(problems, webhooks, leniency(webhooks, old.get("webhooks") or []))
        return problems


class MutatingWebhookConfigurationStrategy(ValidatingWebhookConfigurationStrategy):
    resource_key = "mutatingwebhookconfigurations.admissionregistration.k8s.io"
    defaults = {**_DEFAULTS, "reinvocationPolicy": "Never"}
