"""`motive-train card`: what a corpus holds, measured, as Markdown: counts, labels, variety, readers' agreement."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from sidecar.repository import Taxonomy
from trainer.agreement import Agreement, Reading, agreement, differences
from trainer.texts import Example, without_label
from trainer.variety import Variety, measure

Row = Sequence[object]


def data_card(
    corpus: Mapping[str, Sequence[Example]], taxonomy: Taxonomy, readings: Sequence[Reading] = (), foreword: str = ""
) -> str:
    """The card of the files `corpus`, by name; the same corpus gives the same card."""
    examples = [example for part in corpus.values() for example in part]
    parts = [foreword.strip(), _sizes(corpus), _shares(examples, taxonomy), _labels(examples, taxonomy)]
    parts += [_pairs(examples, taxonomy), _variety(examples)]
    if readings:
        parts.append(_agreement(readings, taxonomy))
    return "\n\n".join(part for part in parts if part) + "\n"


def varieties(examples: Sequence[Example]) -> dict[str, Variety]:
    """Per language, how varied its texts are."""
    langs = sorted({e.lang for e in examples})
    return {lang: measure([e.text for e in examples if e.lang == lang], chinese=lang == "zh") for lang in langs}


def abstaining(examples: Sequence[Example], taxonomy: Taxonomy) -> dict[str, float]:
    """Per kind of text, the share that bears no label."""
    none = {e.kind: 0 for e in examples}
    for example in examples:
        none[example.kind] += not named(example, taxonomy)
    counts = Counter(e.kind for e in examples)
    return {kind: none[kind] / counts[kind] for kind in sorted(none)}


def named(example: Example, taxonomy: Taxonomy) -> tuple[str, ...]:
    """The labels of a text without the abstention code."""
    return without_label(example, taxonomy.abstention.code).motives


def _sizes(corpus: Mapping[str, Sequence[Example]]) -> str:
    rows = [
        (f"`{name}`", len(part), _counts(e.lang for e in part), _counts(e.kind for e in part))
        for name, part in corpus.items()
    ]
    total = sum(len(part) for part in corpus.values())
    return f"## {total:,} texts in {len(corpus)} files\n\n" + _table(("file", "texts", "languages", "kinds"), rows)


def _shares(examples: Sequence[Example], taxonomy: Taxonomy) -> str:
    rows = []
    for lang, kind in sorted({(e.lang, e.kind) for e in examples}):
        part = [e for e in examples if (e.lang, e.kind) == (lang, kind)]
        some = [named(e, taxonomy) for e in part if named(e, taxonomy)]
        lengths = sorted(len(e.text) for e in part)
        rows.append(
            (
                f"{lang} {kind}",
                len(part),
                f"{1 - len(some) / len(part):.1%}",
                f"{sum(map(len, some)) / max(1, len(some)):.2f}",
                lengths[len(lengths) // 2],
                lengths[-1],
            )
        )
    heads = (
        "texts",
        "number",
        f"`{taxonomy.abstention.code}`",
        "labels of the others",
        "median characters",
        "most characters",
    )
    lines = [f"{kind} {share:.1%}" for kind, share in abstaining(examples, taxonomy).items()]
    return (
        "## Languages and kinds\n\n"
        + _table(heads, rows)
        + f"\n\n`{taxonomy.abstention.code}`: "
        + ", ".join(lines)
        + "."
    )


def _labels(examples: Sequence[Example], taxonomy: Taxonomy) -> str:
    langs = sorted({e.lang for e in examples})
    first = Counter((named(e, taxonomy) or (taxonomy.abstention.code,))[0] for e in examples)
    borne = Counter((code, e.lang) for e in examples for code in (named(e, taxonomy) or (taxonomy.abstention.code,)))
    rows = [
        (f"`{code}`", first[code], *(borne[code, lang] for lang in langs))
        for code in (*taxonomy.codes, taxonomy.abstention.code)
    ]
    return "## Labels\n\n" + _table(("label", "as primary", *(f"borne, {lang}" for lang in langs)), rows)


def _pairs(examples: Sequence[Example], taxonomy: Taxonomy) -> str:
    pairs = Counter(
        pair for e in examples for pair in combinations(sorted(named(e, taxonomy), key=taxonomy.codes.index), 2)
    )
    possible = len(taxonomy.codes) * (len(taxonomy.codes) - 1) // 2
    commonest = ", ".join(f"`{a}` + `{b}` {n}" for (a, b), n in pairs.most_common(12))
    missing = [f"`{a}` + `{b}`" for a, b in combinations(taxonomy.codes, 2) if not pairs[a, b]]
    return (
        f"## Pairs of labels\n\n{len(pairs)} of {possible} possible pairs occur, commonest {commonest or 'none'}.\n\n"
        f"Never together: {', '.join(missing) or 'none'}."
    )


def _variety(examples: Sequence[Example]) -> str:
    found = varieties(examples)
    rows: list[Row] = [
        ("near-duplicates (80 % of shingles shared)", *(f"{v.near_duplicates:.2%}" for v in found.values())),
        ("alike (50 %)", *(f"{v.alike:.2%}" for v in found.values())),
        ("commonest opening", *(f"{v.commonest_opening[0]} ({v.commonest_opening[1]:.2%})" for v in found.values())),
        ("openings that five or more share", *(f"{v.shared_openings:.2%}" for v in found.values())),
        ("running n-grams in more than one text", *(f"{v.reused_ngrams:.2%}" for v in found.values())),
        ("frames that another text has", *(f"{v.shared_frames:.2%}" for v in found.values())),
    ]
    return "## Variety\n\nSlot filling would show here: `trainer/variety.py` says how each is measured.\n\n" + _table(
        ("share of the texts", *found), rows
    )


def _agreement(readings: Sequence[Reading], taxonomy: Taxonomy) -> str:
    files = sorted({r.file for r in readings})
    rows = [(f"`{name}`", *_figures(agreement([r for r in readings if r.file == name]))) for name in files]
    rows.append(("all", *_figures(agreement(readings))))
    none = taxonomy.abstention.code
    often = ", ".join(f"{a or none} / {b or none} {n}" for (a, b), n in differences(readings)[:10])
    heads = ("file", "texts", "primary", "kappa", "second's primary in first's set", "set F1")
    return (
        "## Agreement\n\nA second reader labelled a sample without seeing the first labels; what was plainly wrong was "
        f"mended after.\n\n{_table(heads, rows)}\n\nPrimaries that differed most (first / second): {often}."
    )


def _figures(found: Agreement) -> tuple[object, ...]:
    return (found.texts, *(f"{x:.2f}" for x in (found.primary, found.kappa, found.lenient, found.set_f1)))


def _counts(names: Iterable[str]) -> str:
    return ", ".join(f"{name or '?'} {n:,}" for name, n in sorted(Counter(names).items()))


def _table(heads: Sequence[str], rows: Iterable[Row]) -> str:
    lines = [heads, ["---"] * len(heads), *([_cell(c) for c in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "\\|")
