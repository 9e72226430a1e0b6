"""Cleaning a text without changing what it says: mojibake, HTML, invisible characters, spaces, personal data."""

import html
import re
import unicodedata

import ftfy

from sidecar.redact import redact

_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,200}>")
_BREAK = re.compile(r"<(?:br|p|/p|/div|li)\b[^<>]*>", re.IGNORECASE)
_SPACES = re.compile(r"[^\S\n]+")
_LINES = re.compile(r"\s*\n\s*")


def clean(text: str) -> str:
    """The cleaned text: repaired encoding, NFC, tags and control characters gone, spaces single, personal data masked.

    Full-width punctuation, emoji, case and spelling stay: they are how people write.
    """
    text = _BREAK.sub("\n", text)
    text = html.unescape(_TAG.sub(" ", text))
    text = ftfy.fix_text(text, uncurl_quotes=False, fix_character_width=False, normalization="NFC")
    text = "".join(c for c in text if c in "\n\u200d\ufe0f" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co"))
    text = _LINES.sub("\n", _SPACES.sub(" ", text)).strip()
    return redact(text)[0]
