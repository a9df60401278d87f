"""Options that several commands share, written down once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def headed(headings: Mapping[str, Iterable[str]]) -> Decorator:
    """For a command: under which headings its help has which parameters; `headings` in their order."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        named = {name: heading for heading, names in headings.items() for name in names}
        command.headings = {**named, **headings_of(command)}  # type: ignore[attr-defined]
        return command

    return decorate


def headings_of(command: Callable[..., Any] | None) -> dict[str, str]:
    """By the names of parameters; those without one are nowhere in it."""
    found: dict[str, str] = getattr(command, "headings", {})
    return found


def stands_for(parameter: str, asked: Callable[..., Any], heading: str = "", **defaults: object) -> Decorator:
    """For a command with such a parameter, or for what stands for another one: the options that `asked` takes stand in
    its place, and it gets what `asked` makes of them. `heading` is what they are under in the help, `defaults` are
    other ones than its own.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        options = dict(inspect.signature(asked, eval_str=True).parameters)
        for name, value in defaults.items():
            options[name] = options[name].replace(default=value)

        @functools.wraps(command)
        def run(**given: Any) -> Any:
            of_group = {option: given.pop(option) for option in options}
            return command(**given, **{parameter: asked(**of_group)})

        own = dict.fromkeys(options, heading) if heading else {}
        run.headings = {**headings_of(command), **own, **headings_of(asked)}  # type: ignore[attr-defined]
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
