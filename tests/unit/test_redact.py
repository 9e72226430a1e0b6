"""What counts as personal data, what does not, and that offsets survive."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.redact import MASK, redact

PERSONAL = [
    "jane.doe+shop@mail.example.co.uk",
    "+1 (415) 555-2671",
    "+44 20 7946 0958",
    "415-555-2671",
    "(415) 555-2671",
    "13812345678",
    "+86 138-1234-5678",
    "4111 1111 1111 1111",
    "4111111111111111",
    "078-05-1120",
    "11010519491231002X",
    "110105194912310021",
]
HARMLESS = [
    "iPhone 15 Pro Max 256GB",
    "order 1234567",
    "EAN 4006381333931x",
    "1920x1080 at 144 Hz",
    "from 1999 to 2024, 10000 mAh, 3.14159265358979",
    "4111 1111 1111 1112",  # the check digit is wrong
    "@everyone look",
    "a@b",
    "192.168.100.200",
    "12:30-14:45",
]


@pytest.mark.parametrize("piece", PERSONAL)
@pytest.mark.parametrize("frame", ["{}", "call {} now", "电话{}，谢谢", "({})", "{}.", "x: {}\n"])
def test_personal_data_is_masked_where_it_stands(piece: str, frame: str) -> None:
    text = frame.format(piece)
    hidden, count = redact(text)
    assert count == 1, hidden
    assert len(hidden) == len(text)
    assert not any(character.isdigit() or character == "@" for character in hidden)
    assert hidden.replace(MASK, "") in {frame.replace("{}", rest) for rest in ("", "+", "(", ")", ".")}


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert redact(text) == (text, 0)


def test_every_piece_is_counted() -> None:
    hidden, count = redact("a@b.com, c@d.org and 13812345678")
    assert count == 3
    assert hidden == "*******, ******* and ***********"


@given(st.text())
def test_length_never_changes(text: str) -> None:
    hidden, count = redact(text)
    assert len(hidden) == len(text)
    assert count == 0 or MASK in hidden
    assert all(after in (before, MASK) for before, after in zip(text, hidden, strict=True))


@given(st.text(alphabet=string.digits + "@. -+()ab", max_size=200))
def test_a_second_pass_finds_nothing_of_the_first(text: str) -> None:
    hidden, _ = redact(text)
    assert len(redact(hidden)[0]) == len(text)


@pytest.mark.timeout(5)
@pytest.mark.parametrize(
    "text", ["1" * 65_536, "1 " * 32_768, "a@" * 32_768, "a." * 30_000 + "@", "a@" + "b." * 30_000]
)
def test_no_text_takes_long(text: str) -> None:
    redact(text)
