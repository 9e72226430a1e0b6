"""Pictures for reports, as PNG bytes: confusion matrix, reliability curve, learning curve, quality against speed."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trainer.scores import Judged, reliability


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _png(figure: Any) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, metadata={"Software": None})
    return stream.getvalue()


def confusion(judged: Sequence[Judged], labels: Sequence[str], abstention: str) -> bytes:
    """Rows: the primary label; columns: the answered one; shares of the row, counts written in."""
    names = [*labels, abstention]
    place = {name: i for i, name in enumerate(labels)} | {"": len(labels)}
    counts = np.zeros((len(names), len(names)), int)
    for j in judged:
        counts[place[j.gold_primary], place[j.said_primary]] += 1
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    side = 2.2 + 0.42 * len(names)
    figure, axes = _figure(side, side)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*counts.nonzero(), strict=True):
        colour = "white" if shares[row, column] > 0.6 else "black"
        axes.text(column, row, counts[row, column], ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xlabel("answered")
    axes.set_ylabel("labelled")
    return _png(figure)


def reliability_curve(judged: Sequence[Judged]) -> bytes:
    """Confidence against how often the answer was leniently right; a dot's area shows how many texts."""
    points = reliability(judged)
    figure, axes = _figure(4.5, 4.5)
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle="--")
    total = sum(n for _, _, n in points) or 1
    axes.plot([c for c, _, _ in points], [ok for _, ok, _ in points], color="tab:blue", linewidth=1)
    axes.scatter([c for c, _, _ in points], [ok for _, ok, _ in points], s=[20 + 600 * n / total for _, _, n in points])
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share right")
    return _png(figure)


def learning_curve(points: Sequence[tuple[int, Mapping[str, float]]], figures: Sequence[str]) -> bytes:
    """Number of training texts against figures on held-out ones."""
    figure, axes = _figure(5.5, 4)
    for name in figures:
        axes.plot([n for n, _ in points], [f[name] for _, f in points], marker="o", label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks([n for n, _ in points], [f"{n:,}" for n, _ in points], fontsize=8)
    axes.set_xlabel("training texts")
    axes.set_ylim(0, 1)
    axes.legend()
    return _png(figure)


def trade_off(points: Sequence[tuple[str, float, float]]) -> bytes:
    """Name, milliseconds a text and a figure of quality of several models."""
    figure, axes = _figure(5.5, 4)
    for name, milliseconds, quality in points:
        axes.scatter([milliseconds], [quality])
        axes.annotate(name, (milliseconds, quality), xytext=(5, 5), textcoords="offset points", fontsize=8)
    axes.set(xlabel="milliseconds a text", ylabel="macro-F1")
    return _png(figure)
