"""International Bank Account Numbers (ISO 13616): two letters of a country, two check digits, the account there."""

from __future__ import annotations

import re

#: Characters of a number, by country; the registry of ISO 13616 has more.
LENGTHS = {
    "AT": 20, "BE": 16, "CH": 21, "CZ": 24, "DE": 22, "DK": 18, "ES": 24, "FI": 18, "FR": 27, "GB": 22, "HU": 28, "IE": 22,
    "IT": 27, "LI": 21, "LU": 20, "NL": 18, "NO": 15, "PL": 28, "PT": 25, "SE": 24, "SI": 19, "SK": 24,
}  # fmt: skip

_FORM = re.compile(r"[A-Z]{2}[0-9]{2}[0-9A-Z]{11,30}")


def compact(text: str) -> str:
    """
    A number as machines write it.

    >>> compact("at61 1904 3002 3457 3201")
    'AT611904300234573201'
    """
    return "".join(text.split()).upper()


def fault(number: str) -> str | None:
    """
    What is wrong with a compact number; None: nothing that can be known from the number itself.

    >>> fault("AT611904300234573201")
    >>> fault("AT611904300234573210")
    'its check digits do not fit'
    """
    if not _FORM.fullmatch(number):
        return "it is not two letters, two digits, and 11 to 30 letters or digits"
    length = LENGTHS.get(number[:2])
    if length is None:
        return f"the country {number[:2]} is not known here"
    if len(number) != length:
        return f"it has {len(number)} characters, and one of {number[:2]} has {length}"
    # ISO 7064, MOD 97-10: letters count from 10, the first four characters go to the end.
    if int("".join(str(int(each, 36)) for each in number[4:] + number[:4])) % 97 != 1:
        return "its check digits do not fit"
    return None
