"""What a Service of a cluster answers by HTTP."""

from __future__ import annotations

import time
import urllib.error
import urllib.request

from tests.support.process import PATIENCE


def answer_at(url: str) -> str:
    """Once it is served: the proxy hears of endpoints, and names are known, a moment after the API shows them."""
    ends = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                return str(answer.read().decode())
        except OSError as error:
            if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                return error.read().decode()
            if time.monotonic() > ends:
                raise
