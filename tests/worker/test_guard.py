"""What a row holds is of its text, whoever writes the row, and whichever column has gone (F44)."""

import grpc
import pytest

from sidecar.pb import motive_pb2 as pb
from tests.fixtures.annotation import Annotation
from tests.fixtures.fake_sidecar import RefusalError

GIFT, FAST = "a gift for my mother", "my old one is too slow"

pytestmark = pytest.mark.usefixtures("invariants")


@pytest.mark.parametrize("mode", ["queued", "inline"])
def test_an_insert_brings_only_labels_of_its_own_text(annotation: Annotation, mode: str) -> None:
    """F44: a clone of another text, or with a part missing, starts without them; a true copy, or a restored row, keeps
    them."""
    annotation.table("id integer primary key, body text", mode=mode)
    annotation.execute("insert into texts values (1, %s)", GIFT)
    annotation.drain()
    copied = (
        "insert into texts select %s, coalesce(%s, body), motive, motive_confidence, motives, motive_model, motive_hash"
    )
    with annotation.fake.answering(refuse):
        annotation.execute(copied + " from texts where id = 1", 2, FAST)
        annotation.execute(copied + " from texts where id = 1", 3, None)
        annotation.execute("insert into texts (id, body, motive) values (4, %s, 'gift')", FAST)
        annotation.execute("insert into texts (id, motive) values (5, 'gift')")
        annotation.execute(copied.replace("motive_confidence", "null") + " from texts where id = 1", 6, None)
        assert annotation.labels() == {1: "gift", 2: None, 3: "gift", 4: None, 5: None, 6: None}
    annotation.drain()
    assert annotation.labels() == {1: "gift", 2: "performance", 3: "gift", 4: "performance", 5: None, 6: "gift"}


def refuse(_: pb.ClassifyRequest) -> pb.ClassifyResponse:
    """A sidecar that answers nothing."""
    raise RefusalError(grpc.StatusCode.UNAVAILABLE, "not now")


@pytest.mark.parametrize("mode", ["queued", "inline"])
@pytest.mark.parametrize(
    "change",
    [
        "rename motive to label",
        "rename motive_hash to hash",
        "drop motive_confidence cascade",
        "drop motive_model cascade",
        "drop motives cascade",
    ],
)
def test_a_missing_column_of_the_annotation_fails_no_statement(annotation: Annotation, mode: str, change: str) -> None:
    """P3: motive.status names the remedy, and it helps: another attach adds the column, a backfill fills it."""
    annotation.table("id integer primary key, body text", mode=mode)
    annotation.execute("insert into texts values (1, %s), (2, %s)", GIFT, GIFT)
    annotation.drain()
    annotation.execute(f"alter table texts {change}")
    annotation.execute("update texts set body = %s where id = 1", FAST)
    annotation.execute("insert into texts (id, body) values (3, %s)", FAST)
    annotation.drain()
    assert "attach again" in annotation.value("select obstacle from motive.status")
    annotation.attach("texts")
    annotation.value("select motive.backfill('texts')")
    annotation.drain()
    assert annotation.labels() == {1: "performance", 2: "gift", 3: "performance"}
    parts = "motive, motive_confidence, motives, motive_model, motive_hash"
    assert annotation.value(f"select min(num_nonnulls({parts})) from texts") == 5
