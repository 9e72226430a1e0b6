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
    "110105 19491231 002X",
    "110105-19491231-002X",
    "13912345678",
    "139 1234 5678",
    "0170 1234567",
    "0170/1234567",
    "(0171) 1234567",
    "020 7946 0958",
    "(020) 7946 0958",
    "0121 496 0001",
    "07911 123456",
    "07911 123 456",
    "06 12 34 56 78",
    "06.12.34.56.78",
    "010-12345678",
    "0755-12345678",
    "090-1234-5678",
    "00491701234567",
    "0049 170 1234567",
    "+49 (0)172 12345678",
    "+49 170/1234567",
    "+45 20 31 40 52",
    "+375 29 123 45 67",
    "1-415-555-2671",
    "1(415)555-2671",
    "415.555.2671",
    "+49\u00a0170\u00a01234567",
    "415\u2013555\u20132671",
    "4111.1111.1111.1111",
    "4111\u20111111\u20111111\u20111111",
    "3782 822463 10005",
    "6222 0212 3456 7890 128",
    "DE89 3704 0044 0532 0130 00",
    "DE89370400440532013000",
    "de89370400440532013000",
    "GB82 WEST 1234 5698 7654 32",
    "NO93 8601 1117 947",
    "MT84 MALT 0110 0001 2345 MTLC AST0 01S",
    "１３８１２３４５６７８",
    "４１１１\u3000１１１１\u30001111\u30001111",
    "１１０１０５１９４９１２３１００２Ｘ",
    "a.b＠c.de",
    "müller@web.de",
    "mu\u0308ller@web.de",
    "o'brien@mail.ie",
    "info@müller.de",
    "12345@163.com",
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
    "800 600 1200",
    "dimensions 200 300 1500",
    "size 200-300-4000",
    "page 250.300.4000",
    "sizes 100-20-3000, 1945-685-3525",
    "180 2000 1500",
    "+20 30 40 50 60",
    "+25 30 35 40 45",
    "+10 000 000",
    "+1 000 000 000",
    "2000-2010-2020-2024",
    "2015 2016 2017 2018",
    "3840-2160-1920-1080",
    "sizes 06 08 10 12 14",
    "drawn: 06 12 34 56 78 90",
    "3840*2160@144.Hz",
    "order 110105-19491231-0021",
    "from 08:00 2024-01-31 20:00",
    "12,00 2024-01-31 20",
    "MAC 00-24-33-25-89-60",
    "20240131-20240630",
    "part 00646776",
    "part 0 445 110 369",
    "part 6Q0 959 858",
    "GB82 WEST 1234 5698 7654 33",  # the check digits are wrong
    "EAN 4006381333931, UPC 012345678905",
    "感谢@某某旗舰店.下次还来",
    "1 250 000 000",
    "3.13812345678",
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


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("wx13812345678", "wx***********"),
        ("13812345678/13912345678", "***********/***********"),
        ("张三-13812345678-北京", "张三-***********-北京"),
        ("No.13812345678", "No.***********"),
        ("4111 1111 1111 1111 123", "******************* 123"),
        ("ES91 2100 0418 4502 0005 1332 BANK", "***************************** BANK"),
        ("+44 20 7946 0958 2 pieces", "**************** 2 pieces"),
        ("\uff0a 13812345678 １", "\uff0a *********** １"),
    ],
)
def test_what_stands_beside_it_stays(text: str, hidden: str) -> None:
    assert redact(text)[0] == hidden


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


@given(st.text(alphabet=string.digits + "@. -+()/abAB０＠\u00a0", max_size=200))
def test_a_second_pass_finds_nothing_of_the_first(text: str) -> None:
    hidden, _ = redact(text)
    assert len(redact(hidden)[0]) == len(text)


@pytest.mark.timeout(5)
@pytest.mark.parametrize(
    "text",
    [
        "1" * 65_536,
        "1 " * 32_768,
        "a@" * 32_768,
        "a." * 30_000 + "@",
        "a@" + "b." * 30_000,
        "a" * 64 + "@" + "1." * 30_000,
        "+4(0)" * 13_000,
        "+49 170 123456 " * 4_000,
        "1(((" * 16_384,
        "DE89 3704 0044 0532 0130 01 AAAA AAAA " * 1_700,
        "１" * 65_536,
    ],
)
def test_no_text_takes_long(text: str) -> None:
    redact(text)
