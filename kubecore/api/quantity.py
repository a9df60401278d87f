"""Resource quantities (`500m`, `1Gi`, `12e6`) as exact integers of nano units, and their canonical text.

After k8s.io/apimachinery `pkg/api/resource/quantity.go`: nothing is finer than nano (what is, is rounded up), and the
canonical form keeps the value, has no fraction, and the largest suffix that allows it.
"""

from __future__ import annotations

import re
from fractions import Fraction

from kubecore.api.remembering import remembered

PATTERN = r"^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$"
_NUMBER = re.compile(r"([+-]?)(?=[0-9.])([0-9]*)(?:\.([0-9]*))?([A-Za-z]{0,2}|[eE][+-]?[0-9]{1,3})")

_NANO = 10**9
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY_NAMES = {power: name for name, power in _BINARY.items()}
_DECIMAL_NAMES = {power: name for name, power in _DECIMAL.items()}
# Values are capped here, as upstream caps them at what int64 holds.
_LONGEST_TEXT = 256
_LARGEST = (2**63 - 1) * _NANO


class InvalidQuantity(ValueError):
    """The text is no quantity; the message is upstream's."""

    def __init__(self) -> None:
        super().__init__(f"quantities must match the regular expression '{PATTERN}'")


@remembered(4096)
def _parse(text: str) -> tuple[int, str]:
    """Nano units, and which family its suffix is of: "binary", "decimal" or "exponent"."""
    match = _NUMBER.fullmatch(text) if len(text) <= _LONGEST_TEXT else None
    if match is None or not (match[2] or match[3]):
        raise InvalidQuantity
    sign, whole, fraction, suffix = match[1], match[2] or "0", match[3] or "", match[4]
    mantissa, exponent = int(whole + fraction), -len(fraction)
    if suffix in _BINARY:
        family, scale = "binary", Fraction(1024 ** _BINARY[suffix])
    elif suffix in _DECIMAL:
        family, scale = "decimal", Fraction(10) ** _DECIMAL[suffix]
    elif len(suffix) > 1 and suffix[0] in "eE" and suffix[-1].isdigit() and abs(int(suffix[1:])) < 100:
        family, scale = "exponent", Fraction(10) ** int(suffix[1:])
    else:
        raise InvalidQuantity
    exact = mantissa * Fraction(10) ** exponent * scale * _NANO
    nano = min(-(-exact.numerator // exact.denominator), _LARGEST)
    return (-nano if sign == "-" else nano), family


def nano(quantity: str | int | float) -> int:
    """The value in billionths. Raises InvalidQuantity."""
    return _parse(str(quantity))[0]


def read(quantity: str | int | float) -> tuple[int, str]:
    """The value in billionths, and its suffix' family: binary, decimal or exponent. Raises InvalidQuantity."""
    return _parse(str(quantity))


def milli(quantity: str | int | float) -> int:
    """The value in thousandths, rounded up. Raises InvalidQuantity."""
    return -(-nano(quantity) // 10**6)


def value(quantity: str | int | float) -> int:
    """The value in whole units, rounded up. Raises InvalidQuantity."""
    return -(-nano(quantity) // _NANO)


def parse(quantity: str | int | float) -> Fraction:
    """The exact value. Raises InvalidQuantity."""
    return Fraction(nano(quantity), _NANO)


def is_valid(quantity: object) -> bool:
    """Whether the text, or JSON number, is a quantity."""
    if isinstance(quantity, bool) or not isinstance(quantity, str | int | float):
        return False
    try:
        _parse(str(quantity))
    except InvalidQuantity:
        return False
    return True


@remembered(4096)
def _canonical(text: str) -> str:
    nanos, family = _parse(text)
    return format_as(nanos, family)


def canonical(quantity: str | int | float) -> str:
    """The text the API shows for it: `1000m` → `1`, `1024Ki` → `1Mi`, `0.5` → `500m`. Raises InvalidQuantity."""
    return _canonical(str(quantity))


def format_nano(nanos: int, *, binary: bool = False) -> str:
    """The canonical text of a value in billionths; `binary` prefers Ki, Mi, ... as for memory."""
    return format_as(nanos, "binary" if binary else "decimal")


def format_as(nanos: int, family: str) -> str:
    """The canonical text of a value in billionths in a family of suffixes, as `read` tells it."""
    if nanos == 0:
        return "0"
    if family == "binary" and abs(nanos) >= 1024 * _NANO:
        units = -(-nanos // _NANO)
        power = 0
        while units % 1024 == 0 and power < 6:
            units //= 1024
            power += 1
        return f"{units}{_BINARY_NAMES[power] if power else ''}"
    exponent = -9
    while nanos % 1000 == 0 and exponent < 18:
        nanos //= 1000
        exponent += 3
    if family == "exponent":
        return f"{nanos}e{exponent}" if exponent else str(nanos)
    return f"{nanos}{_DECIMAL_NAMES[exponent]}"
