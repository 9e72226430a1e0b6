"""The baselines and the learning curve that `evaluate` shows beside a model, fitted on the config's corpus."""

from collections.abc import Sequence
from pathlib import Path

from sidecar.repository import read_taxonomy
from trainer.baselines import Baseline, encoder, keyword_rules, tfidf, zero_shot
from trainer.bases import load_base
from trainer.config import read_config
from trainer.curve import learning_curve
from trainer.embed import embedder
from trainer.texts import Example, without_label
from trainer.train import corpus_split

Curve = list[tuple[int, dict[str, float]]]


def baselines_and_curve(
    config_path: Path, examples: Sequence[Example], *, offline: bool = False
) -> tuple[dict[str, Baseline], Curve]:
    """Fits the baselines on the training part; the curve is that of the untrained encoder with regressions.

    The curve of the whole fine-tuning would cost a training a point; that of the frozen encoder shows the same thing,
    whether the corpus is exhausted, in seconds.
    """
    config = read_config(config_path)
    taxonomy = read_taxonomy(config.resolve(config.data.taxonomy))
    train = corpus_split(config, taxonomy).train
    embed = embedder(load_base(config.network.base, offline=offline), config.network.max_tokens, config.network.prefix)
    baselines = {
        "keyword rules": keyword_rules(train, taxonomy),
        "TF-IDF and logistic regression": tfidf(train, taxonomy),
        "encoder, zero-shot": zero_shot(embed, taxonomy),
        "encoder and logistic regression": encoder(embed, train, taxonomy),
    }
    test = [without_label(e, taxonomy.abstention.code) for e in examples]
    return baselines, learning_curve(train, test, lambda part: encoder(embed, part, taxonomy))
