"""Options that several commands share, written down once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any


def stands_for(
    parameter: str, asked: Callable[..., Any], **defaults: object
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """For a command with such a parameter, or for what stands for another one: the options that `asked` takes stand in
    its place, and it gets what `asked` makes of them. `defaults` are other ones than its own.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        options = dict(inspect.signature(asked, eval_str=True).parameters)
        for name, value in defaults.items():
            options[name] = options[name].replace(default=value)

        @functools.wraps(command)
        def run(**given: Any) -> Any:
            of_group = {option: given.pop(option) for option in options}
            return command(**given, **{parameter: asked(**of_group)})

        parameters: list[inspect.Parameter] = []
        for one in inspect.signature(command, eval_str=True).parameters.values():
            parameters += options.values() if one.name == parameter else [one]
        # what typer makes its options of
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters]
        )
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return decorate
