"""`motive-train trade-off`: what a larger or smaller model costs and gives: quality, size and speed side by side.

Each model is timed as it is, in this process, on the processor; the sidecar and its batching are measured elsewhere.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from trainer import pictures
from trainer.answer import Model
from trainer.errors import TrainerError
from trainer.scores import answered, scores
from trainer.texts import Example, check_labels, without_label

ALONE = 50
"""How many texts are timed alone."""


@dataclass(frozen=True)
class Point:
    """One model's place."""

    name: str
    megabytes: float
    """Of the ONNX file, in units of a million bytes."""
    milliseconds: float
    """Median time of one text alone."""
    texts_per_second: float
    """All texts, in batches of like length."""
    accuracy: float
    macro_f1: float
    set_f1: float


def measure(model: Model, examples: Sequence[Example]) -> Point:
    """Answers `examples` with `model`, once to warm up and judge, then timed. Raises TrainerError without texts."""
    taxonomy = model.repository.taxonomy
    if not examples:
        raise TrainerError("there is no text to measure on; give a file of labelled texts")
    plain = [without_label(e, taxonomy.abstention.code) for e in examples]
    check_labels(plain, taxonomy.codes)
    texts = [e.text for e in plain]
    figures = scores(answered(plain, model.answers(texts)))
    picked = [texts[int(i)] for i in np.linspace(0, len(texts) - 1, min(ALONE, len(texts)))]
    alone = [_seconds(model, [text]) for text in picked]
    return Point(
        model.repository.model_version,
        model.repository.onnx_path.stat().st_size / 1e6,
        median(alone) * 1e3,
        len(texts) / _seconds(model, texts),
        figures["accuracy"],
        figures["macro_f1"],
        figures["set_f1"],
    )


def _seconds(model: Model, texts: Sequence[str]) -> float:
    start = time.perf_counter()
    model.logits(texts)
    return time.perf_counter() - start


def picture(points: Sequence[Point]) -> bytes:
    """Milliseconds against macro-F1, as PNG."""
    return pictures.trade_off([(p.name, p.milliseconds, p.macro_f1) for p in points])


def sentences(points: Sequence[Point]) -> str:
    """A table for a terminal."""
    lines = [f"{'model':40} {'MB':>7} {'ms alone':>9} {'texts/s':>8} {'accuracy':>9} {'macro-F1':>9} {'set F1':>7}"]
    lines += [
        f"{p.name:40} {p.megabytes:7.1f} {p.milliseconds:9.2f} {p.texts_per_second:8.0f} "
        f"{p.accuracy:9.3f} {p.macro_f1:9.3f} {p.set_f1:7.3f}"
        for p in points
    ]
    return "\n".join(lines)
