"""`motive-train evaluate`: how good an exported model is on labelled texts, beside baselines, as an HTML report."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sidecar.repository import Repository, Taxonomy
from trainer import pictures
from trainer.answer import Model
from trainer.baselines import Baseline
from trainer.bias import Finding, audit
from trainer.curve import verdict
from trainer.errors import TrainerError
from trainer.evidence import EvidenceCheck
from trainer.report import Section, html_report, table
from trainer.scores import Judged, answered, bootstrap, by_slice, per_class, scores
from trainer.texts import Example, check_labels, without_label

CARD = "MODEL_CARD.md"
HEADINGS = ("n", "accuracy", "lenient", "macro_f1", "set_f1", "unknown_recall", "unknown_precision", "ece")


@dataclass(frozen=True)
class Evaluation:
    """All that was measured."""

    model: str
    judged: list[Judged]
    intervals: dict[str, tuple[float, float]]
    slices: dict[str, dict[str, float]]
    classes: dict[str, float]
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)
    curve: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    bias: dict[str, Finding] = field(default_factory=dict)
    evidence: EvidenceCheck | None = None
    """Where it was asked for."""

    def sentences(self) -> str:
        """The figures for a terminal."""
        rows = []
        for name, figures in self.slices.items():
            cells = (f"{h} {figures[h]:.0f}" if h == "n" else f"{h} {figures[h]:.3f}" for h in HEADINGS if h in figures)
            rows.append(f"{name:12} " + "  ".join(cells))
        spans = "  ".join(f"{k} {a:.3f}-{b:.3f}" for k, (a, b) in self.intervals.items())
        base = [
            f"baseline {name}: accuracy {f['accuracy']:.3f}  macro_f1 {f['macro_f1']:.3f}"
            for name, f in self.baselines.items()
        ]
        words = [self.evidence.sentence()] if self.evidence else []
        return "\n".join([*rows, f"95 % intervals: {spans}", *base, *words])


def evaluate(
    model: Model, examples: Sequence[Example], baselines: dict[str, Baseline] | None = None, *, rounds: int = 500
) -> Evaluation:
    """Judges `model` and each baseline. Raises TrainerError where there is no text, or one has another label."""
    taxonomy = model.repository.taxonomy
    if not examples:
        raise TrainerError("there is no text to evaluate on; give a file of labelled texts")
    plain = [without_label(e, taxonomy.abstention.code) for e in examples]
    check_labels(plain, taxonomy.codes)
    texts = [e.text for e in plain]
    judged = answered(plain, model.answers(texts))
    return Evaluation(
        model.repository.model_version,
        judged,
        bootstrap(judged, rounds=rounds),
        by_slice(judged),
        {name or taxonomy.abstention.code: value for name, value in per_class(judged).items()},
        {name: scores(answered(plain, answer(texts))) for name, answer in (baselines or {}).items()},
        bias=audit(texts, model.answers),
    )


def write_report(folder: Path, evaluation: Evaluation, repository: Repository) -> Path:
    """Writes report.html, pictures inside, figures.json and MODEL_CARD.md into `folder`; returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "report.html"
    parts = sections(evaluation, repository.taxonomy)
    page.write_text(html_report(f"How good is {evaluation.model}?", parts), encoding="utf-8")
    (folder / CARD).write_text(evaluated_card(evaluation, repository.path / CARD), encoding="utf-8")
    figures: dict[str, object] = {
        "model": evaluation.model,
        "intervals": evaluation.intervals,
        "slices": evaluation.slices,
        "per_class_f1": evaluation.classes,
        "baselines": evaluation.baselines,
        "learning_curve": evaluation.curve,
        "bias": {k: {"swapped": f.swapped, "flipped": f.flipped, "shift": f.shift} for k, f in evaluation.bias.items()},
    }
    if evaluation.evidence:
        figures["evidence"] = {**asdict(evaluation.evidence), "share": evaluation.evidence.share}
    (folder / "figures.json").write_text(json.dumps(figures, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return page


def evaluated_card(evaluation: Evaluation, exported: Path) -> str:
    """The card that was exported with the model, with a chapter on what this evaluation found."""
    card = exported.read_text(encoding="utf-8") if exported.is_file() else f"# {evaluation.model}\n"
    every = evaluation.slices["all"]
    figures = [
        f"| {name} | {every[name]:.3f} | {low:.3f} to {high:.3f} |"
        for name, (low, high) in evaluation.intervals.items()
    ]
    bias = [f"| {kind} | {f.swapped} | {f.flipped} | {f.shift:.3f} |" for kind, f in evaluation.bias.items()]
    return "\n".join(
        (
            card.rstrip(),
            f"\n## Evaluated on {every['n']:.0f} texts\n",
            "| figure | value | 95 % interval |\n|---|---|---|",
            *figures,
            "\nWords swapped for their fellows of another gender, name, nationality or age:\n",
            "| words | texts | answers flipped | mean shift of confidence |\n|---|---|---|---|",
            *bias,
            *([f"\n{evaluation.evidence.sentence()}"] if evaluation.evidence else []),
            "",
        )
    )


def sections(evaluation: Evaluation, taxonomy: Taxonomy) -> list[Section]:
    """The report's parts, in order."""
    every = evaluation.slices["all"]
    spans = evaluation.intervals
    summary = [
        (name, f"{every[name]:.3f}", f"{spans[name][0]:.3f} to {spans[name][1]:.3f}")
        for name in HEADINGS
        if name in spans and name in every
    ]
    slices = [
        (n, *(f"{f[h]:.0f}" if h == "n" else f"{f[h]:.3f}" if h in f else "" for h in HEADINGS))
        for n, f in evaluation.slices.items()
    ]
    result = [
        Section(f"On {every['n']:.0f} texts", table(("figure", "value", "95 % interval"), summary)),
        Section("By language and kind", table(("texts", *HEADINGS), slices)),
        Section(
            "F1 of the primary label", table(("label", "F1"), [(k, f"{v:.3f}") for k, v in evaluation.classes.items()])
        ),
        Section("Confusion", "", pictures.confusion(evaluation.judged, taxonomy.codes, taxonomy.abstention.code)),
        Section("Confidence against truth", "", pictures.reliability_curve(evaluation.judged)),
    ]
    if evaluation.baselines:
        rows = [
            (n, f"{f['accuracy']:.3f}", f"{f['macro_f1']:.3f}", f"{f['set_f1']:.3f}")
            for n, f in evaluation.baselines.items()
        ]
        ours = (evaluation.model, f"{every['accuracy']:.3f}", f"{every['macro_f1']:.3f}", f"{every['set_f1']:.3f}")
        result.append(Section("Baselines", table(("answers of", "accuracy", "macro-F1", "set F1"), [ours, *rows])))
    if evaluation.curve:
        picture = pictures.learning_curve(evaluation.curve, ("accuracy", "macro_f1", "set_f1"))
        result.append(Section("Learning curve", f"<p>{verdict(evaluation.curve)}</p>", picture))
    if evaluation.bias:
        rows = [(k, str(f.swapped), str(f.flipped), f"{f.shift:.3f}") for k, f in evaluation.bias.items()]
        heads = ("words swapped", "texts", "answers flipped", "mean shift of confidence")
        result.append(Section("Bias audit", table(heads, rows)))
    if evaluation.evidence:
        result.append(Section("Evidence", f"<p>{evaluation.evidence.sentence()}</p>"))
    return result
