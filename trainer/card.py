"""The model card: what a model is, what it was trained on, how well it does and where it should not be used."""

from collections import Counter

from trainer.config import Config
from trainer.intervals import Measured
from trainer.learnt import corpus_digest
from trainer.split import Split
from trainer.train import Trained

FIGURES = {
    "accuracy": "primary motive right",
    "lenient": "primary motive among the labels",
    "macro_f1": "macro-F1 over primary motives",
    "set_f1": "micro-F1 of the sets of motives",
    "unknown_recall": "recall of abstention",
    "unknown_precision": "precision of abstention",
    "ece": "expected calibration error",
}


def model_card(config: Config, trained: Trained, parts: Split, figures: Measured | None) -> str:
    """The card as Markdown; `figures` are those on the corpus's test part, None where it has none."""
    release, network, data = config.release, config.network, config.data
    everything = (*parts.train, *parts.calibration, *parts.test)
    langs = Counter(e.lang or "?" for e in everything)
    kinds = Counter(e.kind or "?" for e in everything)
    rows = ""
    if figures:
        rows = "\n".join(f"| {text} | {figures.cell(key)} |" for key, text in FIGURES.items() if key in figures.figures)
    motives = "\n".join(
        f"| `{m.code}` | {m.group} | {m.name_en} / {m.name_zh} | {m.definition_en} |" for m in trained.taxonomy.motives
    )
    layers = f"{len(network.layers)} of its layers" if network.layers else "all of its layers"
    return f"""# {release.name} {release.version}

Names the {len(trained.taxonomy.codes)} labels of the taxonomy "{trained.taxonomy.name}" in short texts, or answers
`{trained.taxonomy.abstention.code}` where none is stated.

- Base: `{trained.base}`, {layers}; pooling "{trained.model.pooling}"; {trained.tokenizer.get_vocab_size():,} pieces.
- Input: token ids and attention mask, up to {release.window} tokens; longer texts are read in windows.
- Output: {2 * len(trained.taxonomy.codes) + 1} logits: one per label, then a softmax over the labels and abstention.
- Trained on {trained.notes["texts"]["train"]:,} texts, calibrated on {len(parts.calibration):,}, tested on
  {len(parts.test):,} ({listed(langs)}; {listed(kinds)}), told apart by seed {data.seed} (calibration
  {data.calibration_share}, test {data.test_share}). SHA-256 of the texts and labels: `{corpus_digest(everything)}`.

## How well it does on the corpus's test part

| figure | value (95 % interval by the bootstrap) |
|---|---|
{rows or "| no test part | |"}

These texts come from where the training texts come from; others may be harder: run `motive-train evaluate` on texts of
your own.

## Labels

| code | group | name | definition |
|---|---|---|---|
{motives}

## Use

For counting and exploring "{trained.taxonomy.name}" over many texts; not for decisions about single persons. It reads
what is written, not what is meant; irony, allusion and languages other than those above are weak spots.
"""


def listed(counts: Counter[str]) -> str:
    """Names with their counts, commonest first."""
    return ", ".join(f"{name} {count:,}" for name, count in counts.most_common())
