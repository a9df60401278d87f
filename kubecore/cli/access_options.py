"""Who may ask and do what, what nobody reads in the file, how others are reached: for `kubecore up` and `apiserver`."""

from __future__ import annotations

from typing import TypedDict

from kubecore.apiserver.aggregation.options import AggregationOptions
from kubecore.apiserver.authentication.options import AuthenticationOptions
from kubecore.apiserver.authorization.options import AuthorizationOptions
from kubecore.apiserver.storage.encryption import EncryptionOptions
from kubecore.apiserver.tracing.options import TracingOptions
from kubecore.cli.aggregation_options import aggregation_options
from kubecore.cli.authentication_options import authentication_options
from kubecore.cli.authorization_options import AuthorizationFlags, authorization_options
from kubecore.cli.encryption_options import encryption_options
from kubecore.cli.option_groups import stands_for
from kubecore.cli.tracing_options import tracing_options


class Access(TypedDict):
    """As the configurations of a server and of a cluster have it."""

    authentication: AuthenticationOptions
    authorization_modes: tuple[str, ...]
    authorization: AuthorizationOptions
    encryption: EncryptionOptions
    aggregation: AggregationOptions
    tracing: TracingOptions | None


@tracing_options
@aggregation_options
@encryption_options
@authentication_options
@authorization_options
def _asked(
    *,
    authorization: AuthorizationFlags,
    authentication: AuthenticationOptions,
    encryption: EncryptionOptions,
    aggregation: AggregationOptions,
    tracing: TracingOptions | None,
) -> Access:
    return {
        "authentication": authentication,
        "authorization_modes": authorization.modes,
        "authorization": authorization.options,
        "encryption": encryption,
        "aggregation": aggregation,
        "tracing": tracing,
    }


access_options = stands_for("access", _asked)
