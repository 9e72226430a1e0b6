"""Hides personal data before a text leaves: e-mail addresses, phone, card and identity numbers.

Every replacement keeps the length in characters, so that offsets into the text stay valid. Standard library only:
this module is also loaded into PostgreSQL's backends.
"""

import re

MASK = "*"

# Cheap tests that let most texts through untouched: an at-sign, or a run with seven or more digits in it.
_SUSPECT = re.compile(r"@|[0-9](?:[ ().+-]{0,2}[0-9]){6}")

_EMAIL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}")
# Chinese resident identity numbers: region, birth date, sequence, check character.
_IDENTITY = re.compile(
    r"(?<![0-9A-Za-z])[1-9][0-9]{5}(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])[0-3][0-9][0-9]{3}[0-9Xx](?![0-9A-Za-z])"
)
_CARD = re.compile(r"(?<![0-9A-Za-z.-])[0-9](?:[ -]?[0-9]){12,18}(?![0-9A-Za-z-])")
_MOBILE_ZH = re.compile(r"(?<![0-9A-Za-z.-])(?:\+?86[ -]?)?1[3-9][0-9][ -]?[0-9]{4}[ -]?[0-9]{4}(?![0-9A-Za-z-])")
# International form, or the North American grouping: bare digit runs are left alone, being model and order numbers.
_PHONE = re.compile(
    r"(?<![0-9A-Za-z.])(?:\+[0-9]{1,3}(?:[ .()-]{0,2}[0-9]){7,12}"
    r"|(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[ .-])[2-9][0-9]{2}[ .-][0-9]{4})(?![0-9A-Za-z])"
)
_SSN = re.compile(r"(?<![0-9A-Za-z-])[0-8][0-9]{2}-[0-9]{2}-[0-9]{4}(?![0-9A-Za-z-])")


def redact(text: str) -> tuple[str, int]:
    """Returns the text with personal data masked, of the same length, and how many pieces were masked.

    Card numbers are masked where their Luhn check digit is right; other long numbers stay.
    """
    if not _SUSPECT.search(text):
        return text, 0
    count = 0

    def mask(match: re.Match[str]) -> str:
        nonlocal count
        count += 1
        return MASK * len(match.group())

    def mask_card(match: re.Match[str]) -> str:
        return mask(match) if _luhn(match.group()) else match.group()

    text = _EMAIL.sub(mask, text)
    text = _IDENTITY.sub(mask, text)
    text = _CARD.sub(mask_card, text)
    for pattern in (_MOBILE_ZH, _PHONE, _SSN):
        text = pattern.sub(mask, text)
    return text, count


def _luhn(number: str) -> bool:
    """Whether the last digit of `number` (digits, blanks, hyphens) is the check digit of ISO/IEC 7812."""
    digits = [int(character) for character in number if character.isdigit()]
    doubled = [d if i % 2 == 0 else sum(divmod(2 * d, 10)) for i, d in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0
