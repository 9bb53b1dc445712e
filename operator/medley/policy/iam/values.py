"""Values of condition keys as what they stand for: numbers, instants, address ranges.

The same readers serve the parser, which refuses what they cannot read, and the evaluator, for which such a value of a
request matches nothing.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from datetime import UTC, datetime
from fractions import Fraction
from functools import lru_cache

from medley.policy.iam.document import Scalar

_NUMBER = re.compile(r"[+-]?(\d{1,30}(\.\d{0,30})?|\.\d{1,30})([eE][+-]?\d{1,2})?\Z", re.ASCII)
_DATE = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(Z|[+-]\d\d:?\d\d)?)?)?)?\Z", re.ASCII
)


def text_of(value: Scalar) -> str:
    """A condition value as AWS compares it: bare booleans and numbers as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)


@lru_cache(maxsize=8192)
def number_of(text: str) -> Fraction | None:
    """The number that a text stands for, or None."""
    return Fraction(text) if _NUMBER.match(text) else None


@lru_cache(maxsize=8192)
def instant_of(text: str) -> Fraction | None:
    """Seconds since 1970 of a W3C profile ISO 8601 date, or of a plain number of seconds; None if it is neither.

    A date without a zone is UTC; a year or a day alone is its first instant.
    """
    match = _DATE.match(text)
    if match is None:
        return number_of(text)
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    try:
        moment = datetime(
            int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=UTC
        )
    except ValueError:
        return None
    days = moment.toordinal() - datetime(1970, 1, 1, tzinfo=UTC).toordinal()
    seconds = Fraction(days * 86400 + moment.hour * 3600 + moment.minute * 60 + moment.second)
    if fraction:
        seconds += Fraction(int(fraction), 10 ** len(fraction))
    if zone and zone != "Z":
        digits = zone[1:].replace(":", "")
        offset = int(digits[:2]) * 3600 + int(digits[2:]) * 60
        seconds -= offset if zone[0] == "+" else -offset
    return seconds


Range = tuple[int, int, int]
"""IP version, first and last address as integers."""


@lru_cache(maxsize=8192)
def range_of(text: str) -> Range | None:
    """The addresses of an IPv4 or IPv6 address or prefix; bits beyond the prefix are ignored. None if it is neither."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
    if getattr(network.network_address, "scope_id", None):
        return None
    return network.version, int(network.network_address), int(network.broadcast_address)


@lru_cache(maxsize=8192)
def address_of(text: str) -> tuple[int, int] | None:
    """Version and integer of one address, or None."""
    found = range_of(text)
    return None if found is None or found[1] != found[2] or "/" in text else (found[0], found[1])


def address_text(version: int, number: int) -> str:
    """The usual spelling of an address."""
    return str(ipaddress.IPv4Address(number) if version == 4 else ipaddress.IPv6Address(number))


@lru_cache(maxsize=1024)
def binary_of(text: str) -> str | None:
    """Base64 in its canonical spelling, or None."""
    try:
        return base64.b64encode(base64.b64decode(text, validate=True)).decode()
    except (binascii.Error, ValueError):
        return None


def number_text(value: Fraction) -> str:
    """A number that `number_of` reads back: an integer, or a decimal rounded to 12 places."""
    if value.denominator == 1:
        return str(value.numerator)
    text = f"{float(value):.12f}".rstrip("0")
    return text + "0" if text.endswith(".") else text


def instant_text(value: Fraction) -> str:
    """An instant that `instant_of` reads back: ISO 8601 in UTC where the year has four digits, else seconds."""
    whole = value.numerator // value.denominator
    if not -62_000_000_000 <= whole <= 253_000_000_000:
        return number_text(value)
    moment = datetime.fromtimestamp(whole, UTC)
    rest = value - whole
    fraction = f".{int(rest * 10**9):09d}".rstrip("0").rstrip(".") if rest else ""
    return f"{moment:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + fraction + "Z"
