"""Changing the model without surprises: shadow, diff, promote, rollback."""

import hashlib
import json
from collections.abc import Iterator

import psycopg
import pytest

from sidecar.pb import motive_pb2 as pb
from tests.fixtures.annotation import Annotation
from tests.fixtures.fake_sidecar import FakeSidecar, answer, described_model, model_version
from tests.fixtures.postgres import Connect, Connection

GIFT, FAST = "a gift for my mother", "my old one is too slow"
NEWER = pb.ModelVersion(
    name="fake",
    version="2.0.0",
    digest=hashlib.sha256(b"newer").digest(),
    taxonomy_digest=model_version().taxonomy_digest,
)
NEWER_NAME = f"fake@2.0.0/{NEWER.digest.hex()[:8]}"


@pytest.fixture
def newer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeSidecar]:
    """A sidecar with the next model, which calls every gift performance."""

    def classify(request: pb.ClassifyRequest) -> pb.ClassifyResponse:
        changed = pb.ClassifyRequest(texts=[text.replace("gift", "too slow") for text in request.texts])
        return pb.ClassifyResponse(results=answer(changed).results, model=NEWER)

    def get_model(request: pb.GetModelRequest) -> pb.GetModelResponse:
        response = described_model(request)
        response.model.CopyFrom(NEWER)
        return response

    fake = FakeSidecar("127.0.0.1:0", classify=classify, get_model=get_model)
    fake.start()
    yield fake
    fake.stop()


def old_name(annotation: Annotation) -> str:
    """The model that serves first."""
    return str(annotation.value("select model from motive.models where version = '1.0.0'"))


def test_a_model_is_tried_compared_promoted_and_taken_back(annotation: Annotation, newer: FakeSidecar) -> None:
    """Neither promotion nor rollback asks a model for what it has said already."""
    annotation.table()
    annotation.execute("insert into texts (body) values (%s), (%s), (%s), (null)", GIFT, FAST, GIFT + " 2")
    annotation.drain()
    old = old_name(annotation)
    annotation.value("select motive.correct('texts', '3', '{gift}')")
    assert annotation.value("select motive.shadow(%s)", NEWER_NAME) == 1
    with annotation.working(target=newer.target, shadow=NEWER_NAME):
        annotation.wait_drained()
        assert annotation.value("select finished_at is not null from motive.jobs where kind = 'shadow'") in (
            True,
            False,
        )
    annotation.drain(target=newer.target, shadow=NEWER_NAME)
    assert annotation.labels() == {1: "gift", 2: "performance", 3: "gift", 4: None}
    changed = annotation.execute("select key, motive_a, motive_b from motive.diff(%s, %s)", old, NEWER_NAME).fetchall()
    assert changed == [(["1"], "gift", "performance")]
    asked = len(newer.requests)
    annotation.value("select motive.promote(%s)", NEWER_NAME)
    annotation.drain(target=newer.target)
    assert annotation.labels() == {1: "performance", 2: "performance", 3: "gift", 4: None}
    assert annotation.value("select count(*) from texts where motive_model = %s", NEWER_NAME) == 2
    assert len(newer.requests) == asked
    asked = len(annotation.fake.requests)
    assert annotation.value("select motive.rollback()") == old
    annotation.drain()
    assert annotation.labels() == {1: "gift", 2: "performance", 3: "gift", 4: None}
    assert len(annotation.fake.requests) == asked
    # Kept is what a rollback of the rollback needs, and no more.
    kept = "select key, model from motive.shadow_result"
    assert annotation.execute(kept).fetchall() == [(["1"], NEWER_NAME), (["2"], NEWER_NAME)]
    annotation.execute("delete from texts where id = 1")
    assert annotation.value("select motive.forget(%s)", old) == 0
    assert annotation.value("select motive.forget(%s, 'texts')", NEWER_NAME) == 2
    assert annotation.execute(kept).fetchall() == []
    annotation.check()
    annotation.execute(
        "delete from motive.models where version = '2.0.0'; truncate motive.promotion, motive.shadow_result"
    )


def test_a_row_that_is_locked_keeps_its_answer_for_another_promotion(
    annotation: Annotation, newer: FakeSidecar, connect: Connect
) -> None:
    """As does one that the table refuses; neither asks the model again."""
    annotation.table()
    annotation.execute("insert into texts (body) values (%s), (%s), (%s)", GIFT, GIFT + " 2", GIFT + " 3")
    annotation.drain()
    annotation.value("select motive.shadow(%s)", NEWER_NAME)
    annotation.drain(target=newer.target, shadow=NEWER_NAME)
    asked = len(newer.requests)
    annotation.execute("alter table texts add constraint frozen check (id <> 2 or motive = 'gift')")
    kept = "select key from motive.shadow_result where model = %s order by key"
    locker = connect()
    with locker.transaction():
        locker.execute("select from texts where id = 1 for update")
        annotation.value("select motive.promote(%s)", NEWER_NAME)
        annotation.drain()
        assert annotation.labels() == {1: "gift", 2: "gift", 3: "performance"}
        assert annotation.execute(kept, NEWER_NAME).fetchall() == [(["1"],), (["2"],)]
    annotation.execute("alter table texts drop constraint frozen")
    annotation.value("select motive.promote(%s)", NEWER_NAME)
    annotation.drain()
    assert annotation.labels() == {1: "performance", 2: "performance", 3: "performance"}
    assert annotation.execute(kept, NEWER_NAME).fetchall() == []
    assert len(newer.requests) == asked
    annotation.execute(
        "drop table texts; delete from motive.models where version = '2.0.0'; "
        "truncate motive.promotion, motive.shadow_result, motive.job"
    )


def test_rollback_goes_back_to_what_was_promoted_or_annotated_before(annotation: Annotation) -> None:
    """Never to a model that was only tried, and without waiting for a worker's first step."""
    annotation.table()
    annotation.execute("insert into texts (body) values (%s), (%s)", GIFT, FAST)
    annotation.drain()
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="no earlier model"):
        annotation.value("select motive.rollback()")
    old = old_name(annotation)
    annotation.execute(
        "insert into motive.models (digest, name, version, taxonomy_digest) "
        "select sha256(v.version::bytea), 'fake', v.version, m.taxonomy_digest "
        "from motive.models as m cross join (values ('2'), ('3'), ('4')) as v (version) where m.version = '1.0.0'"
    )
    second, third, tried = (
        str(annotation.value("select model from motive.models where version = %s", version))
        for version in ("2", "3", "4")
    )
    annotation.execute(
        "insert into motive.shadow_result (attachment, key, model, hash, motives, confidence) "
        "select a.id, jsonb_build_array(i::text), %s, '', '{gift}', 1 "
        "from motive.attachment as a, generate_series(1, 9) as i",
        tried,
    )
    annotation.value("select motive.promote(%s)", second)
    assert annotation.value("select motive.rollback()") == old
    annotation.value("select motive.promote(%s)", second)
    annotation.value("select motive.promote(%s)", third)
    annotation.value("select motive.promote(%s)", third)
    assert annotation.value("select motive.rollback()") == second
    annotation.execute(
        "delete from motive.models where version in ('2', '3', '4'); "
        "truncate motive.promotion, motive.shadow_result, motive.job"
    )


def test_a_table_that_was_dropped_keeps_no_other_one_from_its_promotion(annotation: Annotation) -> None:
    """Also before a worker has swept what is left of it."""
    annotation.table()
    annotation.execute("create table gone (id integer primary key, body text)")
    annotation.attach("gone")
    annotation.execute("insert into texts (body) values (%s)", GIFT)
    annotation.drain()
    old = old_name(annotation)
    annotation.execute("drop table gone")
    assert annotation.value("select motive.shadow(%s)", old) == 1
    assert annotation.value("select motive.promote(%s)", old) == 1
    annotation.execute("update motive.promotion set replaces = model")
    assert annotation.value("select motive.rollback()") == old
    annotation.execute("truncate motive.promotion, motive.job")


def test_the_model_that_annotates_is_looked_for_at_both_ends_of_a_table(
    annotation: Annotation, connect: Connect
) -> None:
    """Not in all of it; and where a table cannot be read, promote() says so instead of leaving no way back."""
    annotating = "select motive.annotating_model('other')"
    annotation.execute("create table texts (id integer primary key, body text)")
    annotation.execute("insert into texts select i, %s from generate_series(1, 10002) as i", GIFT)
    annotation.attach("texts")
    annotation.execute("update texts set body = body || '!' where id = 5001")
    annotation.drain()
    assert annotation.value(annotating) is None
    annotation.execute("update texts set body = body || '!' where id = 10002")
    annotation.drain()
    assert annotation.value(annotating) == old_name(annotation)
    locker = connect()
    with locker.transaction():
        locker.execute("lock table texts in access exclusive mode")
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=r"public\.texts cannot be read"):
            annotation.value("select motive.promote(%s)", old_name(annotation))
    assert annotation.value("select count(*) from motive.promotion") == 0


def test_models_are_compared_on_rows_that_are_there_whatever_the_session_sets(
    annotation: Annotation, newer: FakeSidecar
) -> None:
    """Keys come as the queue has them, not as the session writes them; a row that is gone is not compared."""
    annotation.table("at timestamptz primary key, body text")
    annotation.execute("set timezone to 'Asia/Shanghai'; set datestyle to 'german'")
    annotation.execute("insert into texts values ('2026-07-01 12:00+08', %s), ('2026-07-02 12:00+08', %s)", GIFT, GIFT)
    annotation.drain()
    annotation.value("select motive.shadow(%s)", NEWER_NAME)
    annotation.drain(target=newer.target, shadow=NEWER_NAME)
    old = old_name(annotation)
    annotation.execute("delete from texts where at > '2026-07-02'")
    changed = annotation.execute("select key, motive_a, motive_b from motive.diff(%s, %s)", old, NEWER_NAME).fetchall()
    assert changed == [(["2026-07-01 04:00:00+00"], "gift", "performance")]
    annotation.value("select motive.correct('texts', %s::jsonb, '{performance}')", json.dumps(changed[0][0]))
    assert annotation.value("select key from motive.corrections('texts')") == changed[0][0]
    annotation.execute("delete from motive.models where version = '2.0.0'; truncate motive.shadow_result")


def test_a_worker_whose_sidecar_serves_another_model_answers_no_shadow_run(
    annotation: Annotation, newer: FakeSidecar
) -> None:
    """A shadow result is always of the model it names."""
    annotation.table()
    annotation.execute("insert into texts (body) values (%s)", GIFT)
    annotation.drain()
    annotation.value("select motive.shadow(%s)", NEWER_NAME)
    with pytest.raises(Exception, match="the shadow run is of"):
        annotation.drain(shadow=NEWER_NAME)
    assert annotation.value("select count(*) from motive.shadow_result") == 0


def test_a_model_that_changes_under_way_is_named_on_every_row(annotation: Annotation, newer: FakeSidecar) -> None:
    """P7: each row carries the model that answered it, known to the database."""
    annotation.table()
    annotation.execute("insert into texts (body) values (%s)", GIFT)
    annotation.drain()
    annotation.fake.classify, annotation.fake.get_model = newer.classify, newer.get_model
    annotation.execute("insert into texts (body) values (%s)", GIFT + " 2")
    with annotation.working():
        annotation.wait_drained()
    models = annotation.execute("select motive_model from texts order by id").fetchall()
    assert models == [(old_name(annotation),), (NEWER_NAME,)]
    annotation.check()
    annotation.execute("drop table texts; delete from motive.models where version = '2.0.0'")


def test_labels_outside_the_taxonomy_are_refused(annotation: Annotation) -> None:
    """F58: a malicious label changes no row and costs no row an attempt."""
    annotation.table()
    annotation.execute("insert into texts (body) values (%s)", GIFT)

    def lie(request: pb.ClassifyRequest) -> pb.ClassifyResponse:
        scored = [pb.ScoredMotive(motive="'); drop table texts; --", confidence=0.9)]
        return pb.ClassifyResponse(
            results=[pb.Classification(motives=scored)] * len(request.texts), model=model_version()
        )

    with annotation.fake.answering(lie), pytest.raises(Exception, match="not a motive of the taxonomy"):
        annotation.drain()
    assert annotation.value("select max(attempts) from motive.queue") == 0
    annotation.drain()
    assert annotation.labels() == {1: "gift"}
    annotation.check()


@pytest.mark.parametrize("name", ["typo", "fake@1.0.0", "fake@1.0.0/0A1B2C3D", "fake@1.0.0/0a1b2c3d4", None])
def test_a_shadow_run_of_what_is_no_models_name_is_refused(annotation: Annotation, name: str | None) -> None:
    """No worker would ever serve it."""
    annotation.table()
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="no model") as caught:
        annotation.value("select motive.shadow(%s)", name)
    assert "motive model show" in (caught.value.diag.message_hint or "")


def test_a_model_that_has_said_nothing_is_not_taken_to_agree(annotation: Annotation) -> None:
    """On either side of the comparison; one that has spoken of one table alone is compared on that one."""
    annotation.table()
    annotation.execute("create table others (id integer primary key, body text)")
    annotation.attach("others")
    annotation.execute("insert into texts (body) values (%s)", GIFT)
    annotation.drain()
    old = old_name(annotation)
    for pair in ((old, NEWER_NAME), (NEWER_NAME, old)):
        with pytest.raises(psycopg.errors.UndefinedObject, match=f"{NEWER_NAME}' has said nothing"):
            annotation.execute("select * from motive.diff(%s, %s)", *pair)
    annotation.value("select motive.correct('texts', '1', '{performance}')")
    annotation.execute("insert into texts (body) values (%s)", FAST)
    annotation.drain()
    assert annotation.execute("select * from motive.diff(%s, 'person')", old).fetchall() == []


def test_only_an_owner_has_a_model_forgotten(annotation: Annotation, alice: Connection) -> None:
    """What it said of another's table stays; what it said of rows hidden from their owner is not even seen."""
    annotation.table()
    annotation.execute("grant select on texts to granted")
    annotation.execute(
        "insert into motive.shadow_result (attachment, key, model, hash, motives, confidence) "
        "select a.id, '[\"1\"]', 'tried', '', '{gift}', 1 from motive.attachment as a"
    )
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="must be owner"):
        alice.execute("select motive.forget('tried', 'texts')")
    annotation.execute("alter table alices.texts force row level security, enable row level security")
    seen = "select a.target::text from motive.shadow_result as r join motive.attachment as a on a.id = r.attachment"
    assert alice.execute(seen).fetchall() == [("texts",)]
    assert alice.execute("select motive.forget('tried')").fetchone() == (0,)
    annotation.execute("alter table alices.texts no force row level security")
    assert alice.execute("select motive.forget('tried')").fetchone() == (1,)
    assert annotation.value("select count(*) from motive.shadow_result") == 1
    assert annotation.value("select motive.forget('tried')") == 1
