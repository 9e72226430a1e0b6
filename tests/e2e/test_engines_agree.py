"""The embedded engine and a real Triton say the same of a thousand texts of the corpus, with the released model."""

import json
from pathlib import Path

import pytest

from sidecar.pb import motive_pb2 as pb
from sidecar.released import released_model
from tests.fixtures.sidecar_process import RunSidecar, SidecarProcess
from tests.fixtures.triton_process import RunTriton, triton_engine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CORPUS = Path(__file__).parents[2] / "trainer" / "corpus"
TEXTS = 1000
TOGETHER = 20
NEAR = 1e-3
"""Batches may be joined differently, which changes a sum of floats in its last places."""


def corpus_texts() -> list[str]:
    """Every so many lines of the whole corpus: both languages, every kind, short and long."""
    lines = [line for path in sorted(CORPUS.glob("*.jsonl")) for line in path.read_text("utf-8").splitlines()]
    texts = [str(json.loads(line)["text"]) for line in lines[:: len(lines) // TEXTS]][:TEXTS]
    assert len(texts) == TEXTS
    return texts


def answers(sidecar: SidecarProcess, texts: list[str]) -> list[pb.Classification]:
    """One answer per text."""
    stub, results = sidecar.stub(), []
    for start in range(0, len(texts), TOGETHER):
        request = pb.ClassifyRequest(texts=texts[start : start + TOGETHER])
        results.extend(stub.Classify(request, timeout=250).results)
    return results


def test_both_engines_give_the_same_answers(run_sidecar: RunSidecar, run_triton: RunTriton, tmp_path: Path) -> None:
    model = released_model()
    texts = corpus_texts()
    embedded = run_sidecar(f"onnx:{model}", listen=f"unix:{tmp_path}/a/s").wait_serving()
    expected = answers(embedded, texts)
    embedded.close()
    triton = run_triton(model).start("motive")
    served = run_sidecar(triton_engine([triton], model), listen=f"unix:{tmp_path}/b/s").wait_serving()
    given = answers(served, texts)
    assert sum(not one.motives for one in given) < TEXTS / 2, "the model must have something to say"
    for text, one, other in zip(texts, expected, given, strict=True):
        assert [each.motive for each in one.motives][:1] == [each.motive for each in other.motives][:1], text
        assert one.confidence == pytest.approx(other.confidence, abs=NEAR), text
        named = ({each.motive: each.confidence for each in result.motives} for result in (one, other))
        before, after = named
        for motive in before.keys() & after.keys():
            assert before[motive] == pytest.approx(after[motive], abs=NEAR), text
        # A confidence that stands on its threshold may fall on either side of it.
        assert len(before.keys() ^ after.keys()) <= 1, text
    differing = sum(_named(one) != _named(other) for one, other in zip(expected, given, strict=True))
    assert differing <= TEXTS // 500


def _named(result: pb.Classification) -> set[str]:
    return {one.motive for one in result.motives}
