"""Texts as messages of Kubernetes show them."""

import orjson

_ESCAPED = {
    "\a": r"\a",
    "\b": r"\b",
    "\f": r"\f",
    "\n": r"\n",
    "\r": r"\r",
    "\t": r"\t",
    "\v": r"\v",
    "\\": r"\\",
    '"': r"\"",
}


def quoted(text: str) -> str:
    """In double quotes, as Go's strconv.Quote and the verb %q have it: what cannot be printed is escaped."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(_ESCAPED.get(one) or (one if one.isprintable() else _by_number(one)) for one in text) + '"'


def _by_number(character: str) -> str:
    number = ord(character)
    if number < 0x80:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"


_ESCAPED_IN_JSON = str.maketrans({one: f"\\u{ord(one):04x}" for one in "<>&\u2028\u2029"})


def in_gos_json(text: str) -> str:
    """As Go's encoding/json writes it: what means something in HTML and JavaScript is escaped."""
    return orjson.dumps(text).decode().translate(_ESCAPED_IN_JSON)


def escaped_as_go(json: bytes) -> bytes:
    """The same of JSON, where all of that stands within texts."""
    return json.decode().translate(_ESCAPED_IN_JSON).encode()


class Pointed:
    """A text that Go keeps behind a pointer, which refusals show as JSON."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return in_gos_json(self._text)
