"""How an evaluation is shown: on a terminal, as an HTML page, as a chapter of the model card, and to programs."""

import json
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from sidecar.repository import Repository, Taxonomy
from trainer import pictures
from trainer.evaluate import Evaluation, figures
from trainer.intervals import Measured, span
from trainer.report import Section, html_report, table

CARD = "MODEL_CARD.md"
HEADINGS = ("n", "accuracy", "lenient", "macro_f1", "set_f1", "unknown_recall", "unknown_precision", "ece")
COMPARED = ("accuracy", "macro_f1", "set_f1")
INTERVALS = "In brackets: 95 % intervals by the bootstrap."
SWAPS = "Words swapped for their fellows of another gender, name, nationality or age:"


def write_report(folder: Path, evaluation: Evaluation, repository: Repository) -> Path:
    """Writes report.html, pictures inside, figures.json and MODEL_CARD.md into `folder`; returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "report.html"
    parts = sections(evaluation, repository.taxonomy)
    page.write_text(html_report(f"How good is {evaluation.model}?", parts), encoding="utf-8")
    exported = repository.path / CARD
    card = exported.read_text(encoding="utf-8") if exported.is_file() else f"# {evaluation.model}\n"
    (folder / CARD).write_text(f"{card.rstrip()}\n\n{card_chapter(evaluation)}", encoding="utf-8")
    text = json.dumps(figures(evaluation), ensure_ascii=False, indent=1)
    (folder / "figures.json").write_text(text + "\n", encoding="utf-8")
    return page


def sentences(evaluation: Evaluation) -> str:
    """The figures for a terminal: one line a slice, class and baseline."""
    rows = [("", *HEADINGS), *_slice_rows(evaluation)]
    lines = [f"{name:18} {n:>6}  " + "  ".join(f"{cell:22}" for cell in cells) for name, n, *cells in rows]
    lines = [line.rstrip() for line in lines]
    lines += [f"F1 of {name:20} {f1}" for name, f1 in _class_rows(evaluation)]
    for name, rival in evaluation.baselines.items():
        cells = [f"{figure} {rival.measured.cell(figure)}" for figure in COMPARED]
        lines.append(f"baseline {name}: {'  '.join(cells)}; macro_f1 of the model minus this {rival.lead}")
    lines += [f"{name} is left out: {reason}" for name, reason in evaluation.left_out.items()]
    lines.append(INTERVALS)
    if evaluation.curve:
        lines.append(evaluation.curve.sentences())
    if evaluation.evidence:
        lines.append(evaluation.evidence.sentence())
    return "\n".join(lines)


def sections(evaluation: Evaluation, taxonomy: Taxonomy) -> list[Section]:
    """The report's parts, in order."""
    every = evaluation.slices["all"]
    none = taxonomy.abstention.code
    result = [
        Section(f"On {every.cell('n')} texts", table(("figure", "value"), _figure_rows(every)) + f"<p>{INTERVALS}</p>"),
        Section("By language and kind", table(("texts", *HEADINGS), _slice_rows(evaluation))),
        Section("F1 of the primary label", table(("label", "F1"), _class_rows(evaluation))),
        Section("Confusion", "", pictures.confusion(evaluation.judged, taxonomy.codes, none)),
        Section("Confidence against truth", "", pictures.reliability_curve(evaluation.judged)),
    ]
    if evaluation.baselines or evaluation.left_out:
        left_out = "".join(
            f"<p>{escape(name)} is left out: {escape(reason)}.</p>" for name, reason in evaluation.left_out.items()
        )
        heads: tuple[str, ...] = ("answers of", "accuracy", "macro-F1", "set F1", "macro-F1 of the model minus this")
        result.append(Section("Baselines", table(heads, _rival_rows(evaluation)) + left_out))
    if evaluation.curve:
        picture = pictures.learning_curve(evaluation.curve.points, COMPARED)
        result.append(Section("Learning curve", f"<p>{escape(evaluation.curve.sentences())}</p>", picture))
    if evaluation.bias:
        heads = ("words swapped", "texts", "answers flipped", "mean shift of confidence")
        result.append(Section("Bias audit", table(heads, _bias_rows(evaluation)) + _flips(evaluation, none)))
    if evaluation.evidence:
        result.append(Section("Evidence", f"<p>{evaluation.evidence.sentence()}</p>"))
    return result


def card_chapter(evaluation: Evaluation) -> str:
    """What the evaluation found, as Markdown."""
    every = evaluation.slices["all"]
    parts = [
        f"## Evaluated on {every.cell('n')} texts",
        INTERVALS,
        _markdown(("figure", "value"), _figure_rows(every)),
        _markdown(("texts", "n", *COMPARED), _slice_rows(evaluation, ("n", *COMPARED))),
        _markdown(("label", "F1"), [(f"`{name}`", f1) for name, f1 in _class_rows(evaluation)]),
    ]
    if evaluation.baselines:
        heads: tuple[str, ...] = ("answers of", *COMPARED, "macro_f1 of the model minus this")
        parts.append(_markdown(heads, _rival_rows(evaluation)))
    heads = ("words", "texts", "answers flipped", "mean shift of confidence")
    parts += [SWAPS, _markdown(heads, _bias_rows(evaluation))]
    if evaluation.evidence:
        parts.append(evaluation.evidence.sentence())
    return "\n\n".join(parts) + "\n"


def _figure_rows(every: Measured) -> list[tuple[str, str]]:
    return [(name, every.cell(name)) for name in HEADINGS if name in every.intervals]


def _slice_rows(evaluation: Evaluation, heads: Sequence[str] = HEADINGS) -> list[tuple[str, ...]]:
    return [(name, *(one.cell(h) for h in heads)) for name, one in evaluation.slices.items()]


def _class_rows(evaluation: Evaluation) -> list[tuple[str, str]]:
    return [(name, span(*found)) for name, found in evaluation.classes.items()]


def _rival_rows(evaluation: Evaluation) -> list[tuple[str, ...]]:
    ours = (evaluation.model, *(evaluation.slices["all"].cell(figure) for figure in COMPARED), "")
    theirs = [
        (name, *(one.measured.cell(figure) for figure in COMPARED), str(one.lead))
        for name, one in evaluation.baselines.items()
    ]
    return [ours, *theirs]


def _bias_rows(evaluation: Evaluation) -> list[tuple[str, ...]]:
    return [(k, str(f.swapped), str(f.flipped), f"{f.shift:.3f}") for k, f in evaluation.bias.items()]


def _flips(evaluation: Evaluation, none: str) -> str:
    """A table of some texts whose answers flipped; nothing where none did."""
    rows = [
        (kind, text, swapped, f"{before or none} → {after or none}")
        for kind, finding in evaluation.bias.items()
        for text, swapped, before, after in finding.examples
    ]
    return table(("for example", "text", "with its words swapped", "answer"), rows) if rows else ""


def _markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = ([cell.replace("|", "\\|") for cell in row] for row in rows)
    lines = [heads, ["---"] * len(heads), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
