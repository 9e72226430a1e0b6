"""`motive-train evaluate`: how good an exported model is on labelled texts, beside baselines."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from trainer.answer import Model
from trainer.baselines import Baseline
from trainer.bias import Finding, audit
from trainer.curve import Curve
from trainer.errors import TrainerError
from trainer.evidence import EvidenceCheck
from trainer.intervals import ROUNDS, Difference, Interval, Measured, class_bootstrap, difference, measured
from trainer.scores import Judged, answered, per_class, slices
from trainer.texts import Example, check_labels, without_label


@dataclass(frozen=True)
class Rival:
    """A baseline on the same texts."""

    measured: Measured
    lead: Difference
    """Macro-F1 of the model minus that of the baseline."""


@dataclass(frozen=True)
class Evaluation:
    """All that was measured."""

    model: str
    judged: list[Judged]
    slices: dict[str, Measured]
    classes: dict[str, tuple[float, Interval]]
    """F1 of the primary, by label."""
    baselines: dict[str, Rival] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    """Baselines, or the learning curve, that could not be fitted, and why."""
    curve: Curve | None = None
    bias: dict[str, Finding] = field(default_factory=dict)
    evidence: EvidenceCheck | None = None
    """Where it was asked for."""


def evaluate(
    model: Model, examples: Sequence[Example], baselines: dict[str, Baseline] | None = None, *, rounds: int = ROUNDS
) -> Evaluation:
    """Judges `model` and each baseline. Raises TrainerError where there is no text, or one has another label."""
    taxonomy = model.repository.taxonomy
    if not examples:
        raise TrainerError("there is no text to evaluate on; give a file of labelled texts")
    plain = [without_label(e, taxonomy.abstention.code) for e in examples]
    check_labels(plain, taxonomy.codes)
    texts = [e.text for e in plain]
    judged = answered(plain, model.answers(texts))
    spans = class_bootstrap(judged, rounds)
    rivals = {name: answered(plain, answer(texts)) for name, answer in (baselines or {}).items()}
    return Evaluation(
        model.repository.model_version,
        judged,
        {name: measured(group, rounds) for name, group in slices(judged).items()},
        {name or taxonomy.abstention.code: (value, spans[name]) for name, value in per_class(judged).items()},
        {
            name: Rival(measured(theirs, rounds), difference(judged, theirs, rounds=rounds))
            for name, theirs in rivals.items()
        },
        bias=audit(texts, model.answers),
    )


def figures(evaluation: Evaluation) -> dict[str, object]:
    """What was measured, for programs."""
    curve = evaluation.curve
    found: dict[str, object] = {
        "model": evaluation.model,
        "slices": {name: one.figures for name, one in evaluation.slices.items()},
        "intervals": {name: one.intervals for name, one in evaluation.slices.items()},
        "per_class_f1": {name: value for name, (value, _) in evaluation.classes.items()},
        "per_class_intervals": {name: interval for name, (_, interval) in evaluation.classes.items()},
        "baselines": {name: one.measured.figures for name, one in evaluation.baselines.items()},
        "baseline_intervals": {name: one.measured.intervals for name, one in evaluation.baselines.items()},
        "macro_f1_over_baselines": {name: asdict(one.lead) for name, one in evaluation.baselines.items()},
        "left_out": evaluation.left_out,
        "learning_curve": list(curve.points) if curve else [],
        "bias": {k: {"swapped": f.swapped, "flipped": f.flipped, "shift": f.shift} for k, f in evaluation.bias.items()},
    }
    if curve and curve.gain:
        found["learning_curve_gain"] = asdict(curve.gain)
    if evaluation.evidence:
        found["evidence"] = {**asdict(evaluation.evidence), "share": evaluation.evidence.share}
    return found
