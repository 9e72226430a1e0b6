"""From SQL to a model and back, through a real sidecar."""

import random

import pytest

from tests.fixtures.postgres import Connect, Connection, value


@pytest.fixture
def served(connect: Connect, served_database: str) -> Connection:
    """A connection to the database that asks the real sidecar."""
    return connect(dsn=served_database)


def test_real_answers_come_through(served: Connection) -> None:
    found = served.execute(
        "select classify_motive('my phone is too slow'), classify_motive('gift for my mother'), "
        "classify_motive('wireless mouse'), classify_motive(''), classify_motive(null)"
    ).fetchone()
    assert found is not None
    assert found == ("performance", "gift", "unknown", "unknown", None)


def test_an_answer_does_not_depend_on_its_neighbours(served: Connection) -> None:
    words = ["cheap", "gift", "slow phone", "the mouse is very cheap", "", "birthday gift for my mother " * 9]
    texts = [f"{word} number{i % 97}" for i, word in enumerate(words * 100)]
    alone = [
        served.execute("select motive, confidence from classify_motives(%s) limit 1", [text]).fetchone()
        for text in texts[:60]
    ]
    shuffled = random.Random(7).sample(range(len(texts)), len(texts))
    served.execute("create temp table texts (position int, body text)")
    with served.cursor().copy("copy texts from stdin") as copy:
        for position in shuffled:
            copy.write_row((position, texts[position]))
    rows = served.execute(
        "select key::int, motive, confidence from motive.classify_rows('select position, body from texts')"
    )
    together = {key: (motive, confidence) for key, motive, confidence in rows.fetchall()}
    array = value(served, "select classify_motive(%s::text[])", texts)
    for position, answer in enumerate(alone):
        assert answer is not None
        assert together[position][0] == answer[0] == array[position]
        assert together[position][1] == pytest.approx(answer[1], abs=1e-3)
    assert [together[position][0] for position in range(len(texts))] == array


def test_evidence_comes_from_the_text(served: Connection) -> None:
    rows = served.execute(
        "select motive, evidence, start, stop from explain_motive('ask a@b.com for a cheap gift')"
    ).fetchall()
    assert {(motive, evidence) for motive, evidence, _, _ in rows} >= {("price_value", "cheap")}
    assert all("ask a@b.com for a cheap gift"[start - 1 : stop - 1] == evidence for _, evidence, start, stop in rows)


def test_a_text_over_the_limit_is_refused_by_the_client_itself(served: Connection) -> None:
    assert value(served, "select classify_motive(repeat('cheap ', 10000))") in ("price_value", "unknown")
