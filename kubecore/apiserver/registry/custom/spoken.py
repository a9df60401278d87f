"""Who owns what of custom resources: an entry of managedFields is in the words of the version it was written through,
and what a write changes is compared in those.

After apimachinery pkg/util/managedfields/internal/versionconverter.go with apiextensions-apiserver's converter: nothing
is pruned on the way, and a version that the definition has no more is an error, which an apply is refused with and for
which an update leaves an object without owners.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from kubecore.api import errors
from kubecore.api.errors import StatusError
from kubecore.api.schemas import CustomSchema, apart
from kubecore.apiserver.registry.custom.conversion import SchemaOf, api_version_of, renamed

if TYPE_CHECKING:
    from kubecore.apiserver.registry.custom.definition import Definition, Version
    from kubecore.apiserver.registry.strategy import RequestContext

# An object in another version. Raises StatusError.
Ask = Callable[[bytes, str], Awaitable[bytes]]
# What a request has had converted by a webhook, and what it has failed with.
Answers = dict[tuple[bytes, str], bytes | StatusError]

# More than any apply asks for.
_MOST_ANSWERS = 64


class ConversionNeeded(Exception):
    """A webhook is to be asked before a write can be worked out; then it is worked out anew."""

    def __init__(self, ask: Ask, answers: Answers, body: bytes, api_version: str) -> None:
        super().__init__(api_version)
        self._ask = ask
        self._answers = answers
        self._wanted = (body, api_version)

    async def settle(self) -> None:
        """Raises StatusError 500 for a webhook that has been asked too often."""
        if len(self._answers) >= _MOST_ANSWERS:
            raise errors.internal_error("the object is converted between its versions too often")
        try:
            self._answers[self._wanted] = await self._ask(*self._wanted)
        except StatusError as error:
            self._answers[self._wanted] = error


class SpokenCustomVersions:
    """The versions of a definition, as a store of one of them comes to them; `ask` its webhook, where it has one."""

    def __init__(self, definition: Definition, version: Version, schema_of: SchemaOf, ask: Ask | None) -> None:
        self._schema, self._schema_of = schema_of(version.name), schema_of
        self._own = definition.api_version(version.name)
        self._names = {definition.api_version(one.name): one.name for one in definition.versions}
        self._ask = ask

    @property
    def several(self) -> bool:
        return len(self._names) > 1

    def books(self, ctx: RequestContext) -> CustomBooks:
        """The engine for one request. What it does raises ConversionNeeded."""

        def convert(body: bytes, api_version: str) -> tuple[CustomSchema, bytes]:
            return self._convert(ctx.converted, body, api_version)

        return CustomBooks(self._schema, convert)

    def _convert(self, answers: Answers, body: bytes, api_version: str) -> tuple[CustomSchema, bytes]:
        name = self._names.get(api_version)
        if name is None:
            raise StatusError(500, "", f"request to convert CR to an invalid group/version: {api_version}")
        # Nobody is told who owns what, and all come by the version that is spoken.
        made = self._said(answers, self._said(answers, apart(body)[0], self._own), api_version)
        return self._schema_of(name), made

    def _said(self, answers: Answers, body: bytes, api_version: str) -> bytes:
        if api_version_of(body) == api_version:
            return body
        if self._ask is None:
            return renamed(body, api_version)
        answer = answers.get((body, api_version))
        if answer is None:
            raise ConversionNeeded(self._ask, answers, body, api_version)
        if isinstance(answer, StatusError):
            raise answer
        return answer


class CustomBooks:
    """The bookkeeping of one version's engine, with the other versions at hand."""

    def __init__(
        self, schema: CustomSchema, convert: Callable[[bytes, str], tuple[CustomSchema, bytes] | None]
    ) -> None:
        self._managed = partial(schema.managed, convert=convert)
        self.apply = partial(schema.apply, convert=convert)

    def managed(self, old: bytes | None, new: bytes, *, manager: str, time: str, subresource: str = "") -> bytes | None:
        try:
            return self._managed(old, new, manager=manager, time=time, subresource=subresource)
        except StatusError:
            # Upstream rather has nobody own anything than refuse the update.
            return None
