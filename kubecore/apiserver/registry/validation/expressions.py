"""Expressions (CEL) of admission and of device selectors: whether they compile, as the native core says."""

from __future__ import annotations

from typing import Literal

from kubecore import _native
from kubecore.apiserver.registry.validation.problems import Problems

Purpose = Literal["condition", "validation", "message", "annotation", "apply", "patch"]


class Expressions:
    """Those of one policy or webhook.

    `params`: there are parameters. `composed`: the policy has variables; they are defined in order, and each may use
    those before it.
    """

    def __init__(self, problems: Problems, *, params: bool = False, composed: bool = False) -> None:
        self._problems = problems
        self._known = _native.AdmissionExpressions(params=params, composed=composed)

    def define(self, name: str, expression: str, path: str) -> None:
        if wrong := self._known.define(name, expression):
            self._problems.invalid(path, expression, wrong)

    def check(self, expression: str, purpose: Purpose, path: str, *, shown: str | None = None) -> None:
        """`shown` is what the refusal shows, when that is not the expression itself."""
        if wrong := self._known.check(expression, purpose):
            self._problems.invalid(path, expression if shown is None else shown, wrong)


def check_device_selector(problems: Problems, expression: str, path: str) -> None:
    if wrong := _native.check_device_selector(expression):
        problems.invalid(path, expression, wrong)
