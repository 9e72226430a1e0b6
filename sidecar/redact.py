"""Hides personal data before a text leaves: e-mail addresses, phone, card, account and identity numbers.

Every replacement keeps the length in characters, so that offsets into the text stay valid. Full-width digits and
letters, and special blanks and hyphens, count as their plain forms. Standard library only: this module is also loaded
into PostgreSQL's backends.

A mask on a size, a price or a model number takes the text's meaning away. So what cannot be told from these stays:

- phone numbers in bare digits without `+` or `00`, but for Chinese mobile numbers; American ones with blanks alone
  (415 555 2671); other national ones of fewer than eleven digits, but for five pairs (06 12 34 56 78), or in unusual
  groups; international ones of fewer than ten digits;
- groups that are round throughout or rise in small steps (200-300-4000, +20 30 40 50 60);
- card and account numbers whose check digits are wrong, and cards in unusual groups;
- Chinese identity numbers of the old fifteen digits;
- e-mail addresses in Chinese characters, which read like a mention of somebody within a sentence.

Eleven digits of an order or part number that read like a Chinese mobile number are masked.
"""

import re
from collections.abc import Callable
from functools import cache
from itertools import pairwise

MASK = "*"

_BLANKS = "\u00a0\u2007\u2009\u202f\u3000"
_HYPHENS = "\u2010\u2011\u2012\u2013\u2212"
# The full-width forms stand in the order of ASCII.
_PLAIN = str.maketrans(
    {
        **{chr(code + 0xFEE0): chr(code) for code in range(0x21, 0x7F)},
        **dict.fromkeys(_BLANKS, " "),
        **dict.fromkeys(_HYPHENS, "-"),
    }
)

# A cheap test that lets most texts through untouched: an at-sign, or nine digits near each other. The first character
# alone decides where to look, which `re` does fastest.
_SUSPECT = re.compile(
    rf"[0-9@０-９＠](?:(?<=[@＠])|(?:[ ()+./（）＋．／－{_BLANKS}{_HYPHENS}-]{{0,3}}[0-9０-９]){{8}})"
)

# Where a number begins and ends: not within a word, a longer number, a decimal or a code of several parts.
_BEGIN = r"(?<![0-9A-Za-z])(?<![0-9][.-])"
_END = r"(?![0-9A-Za-z]|[.-][0-9])"

# Letters of scripts that put blanks between words; in others an address has no beginning that could be found.
_LETTERS = "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0300-\u04ff\u1e00-\u1eff"
# Domains of digits alone are those of the Chinese mail services (163.com); else they are figures, as in 2160@144.Hz.
_EMAIL = (
    rf"[{_LETTERS}0-9][{_LETTERS}0-9._%+'-]{{0,63}}@(?!(?:[0-9]{{1,63}}\.){{1,8}}(?!(?i:com|cn|net))[A-Za-z])"
    rf"(?:[{_LETTERS}0-9-]{{1,63}}\.){{1,8}}[{_LETTERS}]{{2,24}}"
)
# Chinese resident identity numbers: region, birth date, sequence, check character.
_IDENTITY = _BEGIN + r"[1-9][0-9]{5}([ -]?)(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])[0-3][0-9]\1[0-9]{3}[0-9Xx]" + _END
_IBAN = (
    r"(?<![0-9A-Za-z])(?:[A-Za-z]{2}[0-9]{2}[0-9A-Za-z]{11,30}"
    r"|[A-Z]{2}[0-9]{2}(?: [0-9A-Z]{4}){2,7}(?: [0-9A-Z]{1,3})?)(?![0-9A-Za-z])"
)
# No network issues cards that begin with 0, 1 or 20: barcodes, order numbers and years do.
_CARD_START = r"(?=2[2-7]|[3-9])"
_CARD = _BEGIN + _CARD_START + r"[0-9]{14,19}" + _END
_CARD_OF_19 = _BEGIN + _CARD_START + r"[0-9]{4}([ .-])(?:[0-9]{4}\1){3}[0-9]{3}" + _END
_CARD_IN_GROUPS = _BEGIN + _CARD_START + r"[0-9]{4}([ .-])(?:[0-9]{4}\1[0-9]{4}\1[0-9]{4}|[0-9]{6}\1[0-9]{4,5})" + _END
# Ten to thirteen digits, America's eleven, and none that stands alone after a blank: it is the text's. The 00 of a time
# or a price is no prefix.
_GAP = r"(?:[ .]| ?[/-] ?|[ -]?\(|\)[ -]?)?"
_INTERNATIONAL = (
    rf"(?:(?<![0-9])\+|{_BEGIN}(?<![0-9][,:])00 ?)(?:1(?:{_GAP}[0-9]){{10}}"
    rf"|[2-9][0-9]{{1,2}} ?\(0\)(?:{_GAP}[0-9]){{8,11}}|[2-9](?:{_GAP}[0-9]){{9,12}}(?<! [0-9]))(?![0-9A-Za-z])"
)
# May follow a letter, as in the "wx13812345678" of contact details.
_MOBILE_ZH = r"(?<![0-9])(?<![0-9][.-])(?:\+?86[ -]?)?1[3-9][0-9][ -]?[0-9]{4}[ -]?[0-9]{4}" + _END
_AMERICAN = (
    _BEGIN + r"(?:1[ .-])?(?:1?\([2-9][0-9]{2}\)[ -]?[2-9][0-9]{2}[ .-]?[0-9]{4}"
    r"|[2-9][0-9]{2}([.-])[2-9][0-9]{2}\1[0-9]{4})" + _END
)
# With the 0 that is dialled within a country: eleven or twelve digits in the groups of China, Britain, Germany, Japan.
_TRUNK = (
    _BEGIN + r"(?:\(0[1-9][0-9]{1,3}\)[ -]?[0-9]{3,4}[ -]?[0-9]{3,4}|0[1-9](?:"
    r"[0-9](?:[ /-][0-9]{8}|([ .-])[0-9]{4}\1[0-9]{4})"
    r"|[0-9]{2}(?:[ /-][0-9]{7,8}|([ .-])[0-9]{3}\2[0-9]{4})"
    r"|[0-9]{3}(?:[ /-][0-9]{6}|([ .-])[0-9]{3}\3[0-9]{3})))" + _END
)
_PAIRS = r"(?<![0-9A-Za-z])(?<![0-9][ .-])0[1-9]([ .-])[0-9]{2}(?:\1[0-9]{2}){3}(?![0-9A-Za-z]|\1[0-9])"
_SSN = _BEGIN + r"[0-8][0-9]{2}-[0-9]{2}-[0-9]{4}" + _END

_GROUP = re.compile(r"[0-9]+")


def redact(text: str) -> tuple[str, int]:
    """Returns the text with personal data masked, of the same length, and how many pieces were masked."""
    if not _SUSPECT.search(text):
        return text, 0
    plain = text if text.isascii() else text.translate(_PLAIN)
    spans: list[tuple[int, int]] = []
    for pattern, size in _kinds():
        found = [(m.start(), m.start() + length) for m in pattern.finditer(plain) if (length := size(m.group()))]
        if found:
            plain = _hide(plain, found)
            spans += found
    return _hide(text, spans), len(spans)


def _hide(text: str, spans: list[tuple[int, int]]) -> str:
    """The text with the characters of all `spans` (start, stop) masked."""
    characters = list(text)
    for start, stop in spans:
        characters[start:stop] = MASK * (stop - start)
    return "".join(characters)


def _unless_series(number: str) -> int:
    """All of `number`, or nothing where its groups look like sizes, amounts or years: all round, or rising slowly."""
    groups = [int(group) for group in _GROUP.findall(number)]
    if len(groups) < 3:
        return len(number)
    series = all(group % 10 == 0 for group in groups) or all(0 < b - a < 20 for a, b in pairwise(groups))
    return 0 if series else len(number)


def _card(number: str) -> int:
    """All of `number` where its last digit is the check digit of ISO/IEC 7812 (Luhn), else nothing."""
    digits = [int(digit) for digit in number if digit.isdigit()]
    doubled = [d if i % 2 == 0 else sum(divmod(2 * d, 10)) for i, d in enumerate(reversed(digits))]
    return _unless_series(number) if sum(doubled) % 10 == 0 else 0


def _identity(number: str) -> int:
    """All of `number`; where it stands in groups, as invoice numbers with a date do, only with GB 11643's check."""
    if number.isalnum():
        return len(number)
    characters = [character for character in number if character.isalnum()]
    total = sum(pow(2, 17 - place, 11) * int(digit) for place, digit in enumerate(characters[:17]))
    return len(number) if "10X98765432"[total % 11] == characters[17].upper() else 0


def _iban(text: str) -> int:
    """The length of the account number (ISO 13616) that `text` begins with; a word of capitals may follow it."""
    stop = len(text)
    while stop > 0:
        number = text[:stop].replace(" ", "")
        if len(number) >= 15 and int("".join(str(int(c, 36)) for c in number[4:] + number[:4])) % 97 == 1:
            return stop
        stop = text.rfind(" ", 0, stop)
    return 0


@cache
def _kinds() -> tuple[tuple[re.Pattern[str], Callable[[str], int]], ...]:
    """What is looked for, in this order, and how much of what is found is to be masked, in characters.

    Compiled when the first text needs it: most backends only import this module.
    """
    return tuple(
        (re.compile(pattern), size)
        for pattern, size in (
            (_EMAIL, len),
            (_IDENTITY, _identity),
            (_IBAN, _iban),
            (_CARD, _card),
            (_CARD_OF_19, _card),
            (_CARD_IN_GROUPS, _card),
            (_INTERNATIONAL, _unless_series),
            (_MOBILE_ZH, _unless_series),
            (_AMERICAN, _unless_series),
            (_TRUNK, len),
            (_PAIRS, _unless_series),
            (_SSN, _unless_series),
        )
    )
