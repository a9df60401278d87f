"""What is asked of users beyond their requests, whatever admission plugins are on: upstream's strategies ask it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubecore.apiserver.authorization.escalation import EscalationCheck
from kubecore.apiserver.authorization.policy_parameters import PolicyParameters

if TYPE_CHECKING:
    from kubecore import _native
    from kubecore.api.scheme import Scheme
    from kubecore.apiserver.admission.chain import Plugin
    from kubecore.apiserver.authorization.authorizer import Authorizer


def demanding(authorizer: Authorizer, native: _native.Authorizer, scheme: Scheme) -> tuple[Plugin, ...]:
    return EscalationCheck(authorizer, native), PolicyParameters(authorizer, scheme)
