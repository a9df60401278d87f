"""Tokens in a file: `token,user,uid,"group1,group2"` a line.

After upstream k8s.io/apiserver pkg/authentication/token/tokenfile.
"""

from __future__ import annotations

import csv
import io
import logging
from pathlib import Path

from kubecore import _native

log = logging.getLogger("kubecore.apiserver.authentication")


class TokenFileError(ValueError):
    """The file is no token file; the message says why."""


def read_tokens(path: Path) -> dict[str, _native.UserInfo]:
    """Users by their tokens. Raises TokenFileError, OSError."""
    tokens: dict[str, _native.UserInfo] = {}
    try:
        records = list(csv.reader(io.StringIO(path.read_text()), skipinitialspace=False, strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise TokenFileError(f"token file '{path}': {error}") from None
    for number, record in enumerate((one for one in records if one), 1):
        if len(record) < 3:
            raise TokenFileError(
                f"token file '{path}' must have at least 3 columns (token, user name, user uid), found {len(record)}"
            )
        token, name, uid, *groups = record
        if not token:
            log.warning("empty token has been found in token file '%s', record number '%d'", path, number)
            continue
        if token in tokens:
            log.warning("duplicate token has been found in token file '%s', record number '%d'", path, number)
        tokens[token] = _native.UserInfo(name, uid, groups[0].split(",") if groups else [])
    return tokens
