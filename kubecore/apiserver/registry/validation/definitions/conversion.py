"""How a definition's versions are to be converted: not at all, or by a webhook."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.webhook_clients import validate_client_config

JSON = dict[str, Any]

_PATH = "spec.conversion"
_REVIEW_VERSIONS = ("v1", "v1beta1")


def validate_conversion(problems: Problems, conversion: JSON | None, *, any_ca: bool, any_review: bool) -> None:
    """`any_ca`: a CA bundle that is none is let be (before the definition is established, or where it was so before);
    `any_review`: so is a list without a version of ConversionReview that this server speaks."""
    if conversion is None:
        return
    strategy = conversion.get("strategy") or ""
    problems.one_of(f"{_PATH}.strategy", strategy, ("None", "Webhook"), required=True)
    webhook = conversion.get("webhook")
    config, versions = (webhook or {}).get("clientConfig"), (webhook or {}).get("conversionReviewVersions") or []
    if strategy != "Webhook":
        detail = "should not be set when strategy is not set to Webhook"
        if config is not None:
            problems.forbidden(f"{_PATH}.webhookClientConfig", detail)
        if versions:
            problems.forbidden(f"{_PATH}.conversionReviewVersions", detail)
        return
    if config is None:
        problems.required(f"{_PATH}.webhookClientConfig", "required when strategy is set to Webhook")
    else:
        validate_client_config(problems, config, f"{_PATH}.webhookClientConfig")
        if config.get("caBundle") and not any_ca and not is_ca_bundle(config["caBundle"]):
            detail = "unable to load root certificates: unable to parse bytes as PEM block"
            problems.invalid(f"{_PATH}.webhookClientConfig.caBundle", config["caBundle"], detail)
    _validate_review_versions(problems, versions, any_review)


def is_ca_bundle(bundle: str) -> bool:
    """Whether it is base64 of PEM certificates, or empty."""
    if not bundle:
        return True
    from cryptography import x509

    try:
        return bool(x509.load_pem_x509_certificates(base64.b64decode(bundle, validate=True)))
    except (ValueError, binascii.Error):
        return False


def is_recognized(versions: list[str]) -> bool:
    """Whether a version of ConversionReview is among them that this server speaks."""
    return any(version in _REVIEW_VERSIONS for version in versions)


def _validate_review_versions(problems: Problems, versions: list[str], any_review: bool) -> None:
    path = f"{_PATH}.conversionReviewVersions"
    if not versions:
        problems.required(path)
        return
    for index, version in enumerate(versions):
        if version in versions[:index]:
            problems.invalid(f"{path}[{index}]", version, "duplicate version")
        else:
            problems.check(f"{path}[{index}]", version, names.dns_1035_label)
    if not any_review and not is_recognized(versions):
        problems.invalid(path, versions, f"must include at least one of {', '.join(_REVIEW_VERSIONS)}")
