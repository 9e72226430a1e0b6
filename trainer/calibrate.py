"""`motive-train calibrate`: from held-out logits to probabilities that mean something, thresholds and abstention.

Fits the numbers of `sidecar.repository.Calibration`, which the sidecar then applies. A Platt scaling per motive (Platt
1999), drawn towards one common scaling where a motive has few texts, or an isotonic regression (Zadrozny and Elkan
2002), which bends freely but needs many texts; one temperature for the primary head (Guo and others 2017, arXiv
1706.04599); thresholds for the best micro-F1 of the sets of motives, drawn towards one common threshold likewise; a
bias of abstention for the best primary accuracy and F1 of abstention; and how much a motive's own probability counts
when the first is chosen.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.isotonic import IsotonicRegression
from sklearn.model_selection import KFold

from sidecar.repository import Calibration
from trainer.config import CALIBRATIONS
from trainer.errors import TrainerError
from trainer.learn import Targets

Floats = NDArray[np.float64]
KNOTS = np.linspace(-12.0, 12.0, 97)
FEW = 30.0
"""How many positive texts weigh as much as the common scaling or threshold."""


BENDABLE = 10
"""How many texts a motive must hold in, and be absent from, before "best" may choose an isotonic regression for it."""
LEAST = 1e-3
"""No regression says less than this, or more than 1 less this: few texts cannot bear more."""

Curve = tuple[tuple[float, ...], tuple[float, ...]]
"""Logits or raw scores, ascending, and the probability at each."""


def fit_calibration(
    labels: Sequence[str], logits: NDArray[np.float32], targets: Targets, method: str = "platt"
) -> Calibration:
    """logits [texts, 2 * labels + 1] of held-out texts and what they should give -> the calibration.

    `method` is one of CALIBRATIONS. Raises TrainerError where it is another, a logit is no number or there are fewer
    than 20 texts.
    """
    if method not in CALIBRATIONS:
        raise TrainerError(f'calibration = "{method}" is none of {", ".join(CALIBRATIONS)}; mend [release]')
    check_enough(len(logits))
    if not np.isfinite(logits).all():
        raise TrainerError("the model gives logits that are no numbers; train it anew with a lower learning_rate")
    count = len(labels)
    z, motives, primary = logits.astype(np.float64), targets.motives.astype(np.float64), targets.primary
    choices = [method] * count
    if method == "best":
        choices = [
            min(losses, key=losses.__getitem__) if BENDABLE <= held <= len(motives) - BENDABLE else "platt"
            for losses, held in zip(log_losses(z, motives), motives.sum(axis=0), strict=True)
        ]
    curves = {one: motive_curves(z, motives, one) for one in set(choices)}
    calibration = replace(
        Calibration.plain(labels, primary=True),
        knots=tuple(curves[one][i] for i, one in enumerate(choices)),
        primary_temperature=temperature(z[:, count:], primary),
    )
    calibration = replace(calibration, abstention_bias=abstention_bias(calibration, z, primary))
    calibration = replace(calibration, motive_weight=motive_weight(calibration, z, motives, primary))
    calibration = replace(calibration, thresholds=thresholds(calibration, z, motives))
    return confidences(calibration, z, motives)


def check_enough(texts: int) -> None:
    """Raises TrainerError where so many held-out texts are too few to fit anything on."""
    if texts < 20:
        raise TrainerError(
            f"{texts} held-out texts are too few to calibrate on; give at least 20, or raise calibration_share"
        )


def motive_curves(z: Floats, motives: Floats, method: str) -> list[Curve]:
    """Per motive the curve from its logit to its probability, "platt" or "isotonic"."""
    count = motives.shape[1]
    if method == "isotonic":
        return [isotonic(z[:, i], motives[:, i]) for i in range(count)]
    common = platt(z[:, :count].ravel(), motives.ravel(), (1.0, 0.0), 1e-6)
    scalings = (platt(z[:, i], motives[:, i], common, FEW) for i in range(count))
    return [(tuple(KNOTS.tolist()), tuple(sigmoid(a * KNOTS + b).tolist())) for a, b in scalings]


def log_losses(z: Floats, motives: Floats, parts: int = 5) -> list[dict[str, float]]:
    """Per motive the mean log loss of each method on texts that it was not fitted on."""
    texts, count = motives.shape
    said = {"platt": np.zeros_like(motives), "isotonic": np.zeros_like(motives)}
    for fit, judge in folds(texts, parts, seed=17):
        for method, probability in said.items():
            for i, (xs, ys) in enumerate(motive_curves(z[fit], motives[fit], method)):
                probability[judge, i] = np.interp(z[judge, i], xs, ys)
    losses = {}
    for method, probability in said.items():
        p = probability.clip(LEAST, 1 - LEAST)
        losses[method] = -(motives * np.log(p) + (1 - motives) * np.log(1 - p)).mean(axis=0)
    return [{method: float(loss[i]) for method, loss in losses.items()} for i in range(count)]


def isotonic(z: Floats, y: Floats) -> Curve:
    """The rising curve through (z, y) with the least squared error, lines between its steps."""
    found = IsotonicRegression(y_min=LEAST, y_max=1 - LEAST, out_of_bounds="clip").fit(z, y)
    return tuple(map(float, found.X_thresholds_)), tuple(map(float, found.y_thresholds_))


def sigmoid(x: Floats) -> Floats:
    """The logistic function, elementwise."""
    result: Floats = 1.0 / (1.0 + np.exp(-np.clip(x, -40.0, 40.0)))
    return result


def platt(z: Floats, y: Floats, prior: tuple[float, float], strength: float) -> tuple[float, float]:
    """Slope and offset of the logistic curve through (z, y), drawn towards `prior` with `strength` texts' weight."""

    def loss(ab: Floats) -> tuple[float, Floats]:
        p = sigmoid(ab[0] * z + ab[1])
        pull = ab - np.asarray(prior)
        value = -(y * np.log(p + 1e-12) + (1 - y) * np.log(1 - p + 1e-12)).sum() + strength / 10 * (pull**2).sum()
        slope = np.array([((p - y) * z).sum(), (p - y).sum()]) + strength / 5 * pull
        return float(value), slope

    a, b = minimize(loss, np.asarray(prior), jac=True, method="L-BFGS-B", bounds=[(0.05, 5.0), (-6.0, 6.0)]).x
    return float(a), float(b)


def temperature(z: Floats, primary: NDArray[np.float32]) -> float:
    """The divisor of the primary logits that makes their softmax likeliest."""

    def loss(log: Floats) -> float:
        scaled = z / math.exp(float(log[0]))
        scaled = scaled - scaled.max(axis=1, keepdims=True)
        return float((np.log(np.exp(scaled).sum(axis=1)) - (scaled * primary).sum(axis=1)).mean())

    return math.exp(float(minimize(loss, np.zeros(1), method="Nelder-Mead").x[0]))


def abstention_bias(calibration: Calibration, z: Floats, primary: NDArray[np.float32]) -> float:
    """The bias with the best sum of primary accuracy and F1 of abstention; the middle of the best stretch."""
    gold = primary.argmax(axis=1)
    last = primary.shape[1] - 1
    grid = np.linspace(-1.5, 1.5, 61)
    marks = []
    for bias in grid:
        said = replace(calibration, abstention_bias=float(bias)).primary_scores(z).argmax(axis=1)
        hit = ((said == last) & (gold == last)).sum()
        f1 = 2 * hit / max(1, (said == last).sum() + (gold == last).sum())
        marks.append((said == gold).mean() + 0.5 * f1)
    smooth = np.convolve(np.pad(marks, 3, mode="edge"), np.ones(7) / 7, mode="valid")
    return float(grid[int(smooth.argmax())])


def motive_weight(calibration: Calibration, z: Floats, motives: Floats, primary: NDArray[np.float32]) -> float:
    """The weight of the motives' own probabilities with the most first motives that are the primary, or hold at all."""
    speaks = primary.argmax(axis=1) < motives.shape[1]
    rows, gold = np.arange(int(speaks.sum())), primary[speaks].argmax(axis=1)
    grid = np.linspace(0.0, 1.0, 11)
    marks = []
    for weight in grid:
        scores = replace(calibration, motive_weight=float(weight)).primary_scores(z[speaks])
        first = scores[:, :-1].argmax(axis=1)
        marks.append((first == gold).mean() + (motives[speaks][rows, first] > 0.5).mean())
    smooth = np.convolve(np.pad(marks, 1, mode="edge"), np.ones(3) / 3, mode="valid")
    return float(grid[int(smooth.argmax())])


def thresholds(calibration: Calibration, z: Floats, motives: Floats) -> tuple[float, ...]:
    """Per label the threshold with the best micro-F1 of the answers' sets, by coordinate ascent from a common one."""
    probability, primary = calibration.probabilities(z), calibration.primary_scores(z)
    count = motives.shape[1]
    speaks = primary.argmax(axis=1) < count
    first = np.zeros_like(motives, dtype=bool)
    first[np.arange(len(z)), primary[:, :-1].argmax(axis=1)] = True
    gold, total = motives > 0.5, motives.sum()

    def chosen(limits: Floats) -> NDArray[np.bool_]:
        result: NDArray[np.bool_] = ((probability >= limits) | first) & speaks[:, None]
        return result

    def f1(limits: Floats) -> float:
        said = chosen(limits)
        return float(2 * (said & gold).sum() / max(1.0, said.sum() + total))

    grid = np.linspace(0.1, 0.8, 36)
    common = float(grid[int(np.argmax([f1(np.full(count, t)) for t in grid]))])
    limits = np.full(count, common)
    for _ in range(3):
        for i in range(count):
            trials = [f1(np.where(np.arange(count) == i, t, limits)) for t in grid]
            limits[i] = grid[int(np.argmax(trials))]
    weight = motives.sum(axis=0) / (motives.sum(axis=0) + FEW)
    return tuple(float(t) for t in weight * limits + (1 - weight) * common)


def confidences(calibration: Calibration, z: Floats, motives: Floats) -> Calibration:
    """Adds the curves from raw scores to the probability that the answer is right: its first motive holds, or none."""
    primary = calibration.primary_scores(z)
    probability = calibration.probabilities(z)
    count = motives.shape[1]
    speaks = primary.argmax(axis=1) < count
    first = primary[:, :-1].argmax(axis=1)
    rows = np.arange(len(z))
    raw = np.maximum(probability[rows, first], primary[rows, first])[speaks]
    right = (motives[rows, first] > 0.5)[speaks].astype(np.float64)
    silent = primary[~speaks, -1]
    nothing = (motives[~speaks].sum(axis=1) == 0).astype(np.float64)
    return replace(calibration, primary_knots=curve(raw, right), abstention_knots=curve(silent, nothing))


def curve(raw: Floats, right: Floats) -> Curve:
    """A rising curve from a raw score, 0 to 1, to how often it was right: a logistic one in the score's log-odds."""
    grid = np.linspace(0.0, 1.0, 51)
    a, b = platt(log_odds(raw), right, (1.0, 0.0), 10.0)
    return tuple(grid.tolist()), tuple(sigmoid(a * log_odds(grid) + b).tolist())


def log_odds(p: Floats) -> Floats:
    """The inverse of the logistic function, bounded at 0.001 and 0.999."""
    p = np.clip(p, 1e-3, 1 - 1e-3)
    result: Floats = np.log(p / (1 - p))
    return result


def folds(count: int, parts: int, seed: int) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Index pairs (fit, judge) of a cross-validation: each text is judged once, by a fit that has not seen it."""
    return list(KFold(parts, shuffle=True, random_state=seed).split(np.arange(count)))
