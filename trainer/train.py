"""`motive-train train`: a config file in, a folder with a trained classifier out (`calibrate` and `export` go on)."""

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from sidecar.redact import redact
from sidecar.repository import Taxonomy, atomic, read_taxonomy
from trainer.augment import join_texts
from trainer.bases import Base, load_base
from trainer.classifier import (
    MotiveClassifier,
    Pooling,
    load_classifier,
    mean_over_tokens,
    save_classifier,
)
from trainer.config import Config
from trainer.destination import check_for_trained
from trainer.distill import blend, read_votes, text_key
from trainer.errors import TrainerError, UnlearnableError
from trainer.grid import Reach, measure_reach, put_on_grid
from trainer.layers import keep_layers, standardize
from trainer.learn import Targets, begin, learn
from trainer.learnt import write_learnt
from trainer.predict import Ids, evenly_spaced, predict, token_ids
from trainer.progress import say
from trainer.split import Split, split
from trainer.texts import Example, check_labels, read_examples
from trainer.vocabulary import pieces_of, read_pieces, trim

SPLITTING = ("seed", "calibration_share", "test_share")
"""Keys of [data] that decide which texts are learnt and which are held out."""
MOST_BYTES = 2_000_000_000
"""Of weights in 32 bits: protobuf's limit of 2 GiB, with room for the graph and for what the grid keeps apart."""


@dataclass(frozen=True)
class Trained:
    """A trained classifier as it lies in its folder."""

    folder: Path
    model: MotiveClassifier
    tokenizer: Tokenizer
    taxonomy: Taxonomy
    base: str
    pad_id: int
    prefix: str
    notes: Mapping[str, Any]
    """All of training.json."""


def read_corpus(config: Config, taxonomy: Taxonomy) -> list[Example]:
    """The config's labelled texts, each once, personal data masked; the abstention code among motives means none."""
    examples: dict[str, Example] = {}
    for path in config.corpus_files():
        for example in read_examples(path):
            motives = tuple(m for m in example.motives if m != taxonomy.abstention.code)
            text = redact(example.text)[0]
            examples.setdefault(text, replace(example, text=text, motives=motives))
    check_labels(examples.values(), taxonomy.codes)
    return list(examples.values())


def corpus_split(config: Config, taxonomy: Taxonomy) -> Split:
    """The corpus in its three parts; raises TrainerError where a motive has no training text, or there is one class."""
    parts = split(
        read_corpus(config, taxonomy), config.data.calibration_share, config.data.test_share, config.data.seed
    )
    check_learnable(parts.train, taxonomy)
    return parts


def check_learnable(examples: Sequence[Example], taxonomy: Taxonomy) -> None:
    """Raises UnlearnableError where a motive has no text among those to train on, or there is one class alone."""
    seen = Counter(motive for example in examples for motive in example.motives)
    for code in taxonomy.codes:
        if not seen[code]:
            raise UnlearnableError(f"no training text bears {code!r}; add some, or take it out of the taxonomy")
    if len({example.motives[:1] for example in examples}) < 2:
        raise UnlearnableError("all training texts have the same primary motive; there is nothing to tell apart")


def targets(examples: Sequence[Example], taxonomy: Taxonomy) -> Targets:
    """Hard targets of labelled texts."""
    codes = {code: i for i, code in enumerate(taxonomy.codes)}
    motives = np.zeros((len(examples), len(codes)), np.float32)
    primary = np.zeros((len(examples), len(codes) + 1), np.float32)
    for row, example in enumerate(examples):
        for code in example.motives:
            motives[row, codes[code]] = 1.0
        primary[row, codes[example.motives[0]] if example.motives else len(codes)] = 1.0
    return Targets(motives, primary)


def new_classifier(config: Config, base: Base, labels: int) -> MotiveClassifier:
    """The classifier a config asks for on a loaded base, untrained heads."""
    network = config.network
    pooling = network.pooling or ("last" if base.causal else "mean")
    if pooling not in ("mean", "last", "labels"):
        raise TrainerError(f'{config.path}: pooling = "{pooling}" is none of mean, last, labels')
    longest = base.positions
    for key, tokens in (("max_tokens", network.max_tokens), ("window", config.release.window)):
        if longest is not None and tokens > longest:
            raise TrainerError(f"{config.path}: {key} = {tokens}, and {base.name} reads {longest} tokens; lower it")
    if network.layers and max(network.layers) >= base.model.config.num_hidden_layers:
        raise TrainerError(f"{config.path}: {base.name} has {base.model.config.num_hidden_layers} layers; mend layers")
    keep_layers(base.model, network.layers)
    if network.lora_rank:
        base.model = with_adapters(base.model, network.lora_rank)
    return MotiveClassifier(base.model, labels, cast(Pooling, pooling), network.dropout)


def check_size(config: Config, base: Base) -> None:
    """Raises TrainerError where the base is too large for an ONNX file: said only then, the training is lost."""
    size = sum(parameter.numel() * parameter.element_size() for parameter in base.model.parameters())
    if size > MOST_BYTES:
        trim_it = "" if config.network.trim_vocabulary else "set trim_vocabulary = true, "
        raise TrainerError(
            f"{config.path}: the weights of {base.name} are {size / 1e9:.2f} GB, and an ONNX file holds "
            f"{MOST_BYTES / 1e9:.0f}; {trim_it}name fewer layers, or take a smaller base"
        )


def with_adapters(backbone: Any, rank: int) -> Any:
    """The backbone with trainable low-rank adapters beside its linear layers, all else frozen (Hu and others 2021)."""
    from peft import LoraConfig, get_peft_model

    return get_peft_model(backbone, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear"))


def training_examples(config: Config, parts: Split) -> list[Example]:
    """The training part, and the joined texts that the config asks for."""
    return [*parts.train, *join_texts(parts.train, config.data.joined, config.data.seed)]


def checkpoints(folder: Path) -> Path:
    """Where a training that is to end in `folder` keeps its checkpoints meanwhile."""
    return folder.with_name(folder.name + ".checkpoints")


def standardize_heads(model: MotiveClassifier, ids: Ids, pad_id: int) -> None:
    """Makes the heads' input well scaled, judged by evenly spaced training texts."""

    def infer(input_ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        with torch.inference_mode():
            kept = torch.from_numpy(mask)
            hidden = model.backbone(input_ids=torch.from_numpy(input_ids), attention_mask=kept).last_hidden_state
            vectors: NDArray[np.float32] = mean_over_tokens(hidden, kept).float().numpy()
            return vectors

    model.eval()
    standardize(model, torch.from_numpy(predict(infer, evenly_spaced(ids), pad_id)))


def train(
    config: Config,
    folder: Path,
    *,
    parts: Split | None = None,
    resume: bool = False,
    offline: bool = False,
    title: str = "training",
    to_export: bool = True,
) -> dict[str, float]:
    """Trains what `config` asks for and writes it to `folder`, in one rename; returns Trainer's figures.

    `parts` stands for the corpus's own parts where only some of its texts are to be learnt from. A trained model that
    lies at `folder` is replaced; anything else there raises TrainerError, as does a base that is too large to export,
    unless the model is not `to_export`.
    """
    check_for_trained(folder)
    taxonomy = read_taxonomy(config.taxonomy_path)
    if parts is None:
        parts = corpus_split(config, taxonomy)
    else:
        check_learnable(parts.train, taxonomy)
    begin(config.optimisation)
    base = load_base(config.network.base, offline=offline)
    if config.network.trim_vocabulary:
        base = trim(base, read_pieces() | pieces_of(base.tokenizer, [e.text for e in parts.train]))
    model = new_classifier(config, base, len(taxonomy.codes))
    if to_export:
        check_size(config, base)
    examples = training_examples(config, parts)
    ids = [
        token_ids(base.tokenizer, [e.text for e in part], config.network.max_tokens, config.network.prefix)
        for part in (examples, parts.calibration)
    ]
    if model.pooling != "last":
        standardize_heads(model, ids[0], base.pad_id)
    wanted = targets(examples, taxonomy)
    if config.optimisation.teacher:
        votes = read_votes(config.resolve(config.optimisation.teacher), (*taxonomy.codes, taxonomy.abstention.code))
        voted = sum(text_key(e.text) in votes for e in examples)
        say(f"{voted:,} of {len(examples):,} training texts have votes in {config.optimisation.teacher}")
        wanted = blend(wanted, examples, votes, config.optimisation.teacher_share)
    work = checkpoints(folder)
    figures = learn(
        model,
        (ids[0], wanted),
        (ids[1], targets(parts.calibration, taxonomy)),
        base.pad_id,
        config.optimisation,
        work,
        network=config.network,
        resume=resume,
        title=title,
    )
    if config.network.lora_rank:
        model.backbone = model.backbone.merge_and_unload()
    notes = {
        "base": base.name,
        "pad_id": base.pad_id,
        "pooling": model.pooling,
        "prefix": config.network.prefix,
        "data": {name: getattr(config.data, name) for name in SPLITTING},
        "texts": {"train": len(parts.train), "calibration": len(parts.calibration), "test": len(parts.test)},
        "network": asdict(config.network),
        "optimisation": asdict(config.optimisation),
        "figures": figures,
    }
    reach = measure_reach(model, ids[0], base.pad_id)

    def fill(draft: Path) -> None:
        save_classifier(model, draft)
        reach.save(draft)
        base.tokenizer.save(str(draft / "tokenizer.json"), pretty=False)
        shutil.copyfile(config.taxonomy_path, draft / "taxonomy.toml")
        write_learnt(draft, parts.train)
        (draft / "training.json").write_text(json.dumps(notes, indent=1) + "\n", encoding="utf-8")

    atomic.replace(folder, fill)
    shutil.rmtree(work, ignore_errors=True)
    return figures


def read_trained(folder: Path) -> Trained:
    """Reads what `train` wrote, its weights on the eight-bit grid as they will be released.

    Raises TrainerError where the folder holds no trained classifier.
    """
    try:
        notes = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TrainerError(f"{folder} holds no trained model; run motive-train train first") from None
    taxonomy = read_taxonomy(folder / "taxonomy.toml")
    model = load_classifier(folder, len(taxonomy.codes), notes["pooling"])
    put_on_grid(model.backbone, Reach.load(folder))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return Trained(folder, model, tokenizer, taxonomy, notes["base"], notes["pad_id"], notes["prefix"], notes)
