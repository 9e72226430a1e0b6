"""Training proper: transformers' Trainer around the classifier, with the levers that small corpora need."""

import ctypes
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainerCallback, TrainingArguments, set_seed

from trainer.checkpoints import claim, is_of, last_whole
from trainer.classifier import MotiveClassifier, motive_loss
from trainer.config import Network, Optimisation
from trainer.device import computes_bf16
from trainer.errors import TrainerError
from trainer.layers import layer_stack
from trainer.predict import Ids, pad
from trainer.progress import Advance, bar, say


@dataclass(frozen=True)
class Targets:
    """What the texts should give: motives float32 [texts, labels], primary float32 [texts, labels + 1]."""

    motives: NDArray[np.float32]
    primary: NDArray[np.float32]


class Rows(torch.utils.data.Dataset[dict[str, Any]]):
    """Token ids with their targets."""

    def __init__(self, ids: Ids, targets: Targets) -> None:
        self.ids, self.targets = ids, targets

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {"input_ids": self.ids[i], "motives": self.targets.motives[i], "primary": self.targets.primary[i]}


class Learner(nn.Module):
    """The classifier with its loss, as Trainer wants it."""

    def __init__(self, classifier: MotiveClassifier, weight: Tensor, options: Optimisation) -> None:
        super().__init__()
        self.classifier, self.options = classifier, options
        # a part of the learner, so that a checkpoint holds it
        averaged = trained_parameters(classifier) if options.average else []
        self.average = nn.ParameterList(value.detach().clone() for value in averaged).requires_grad_(False)
        self.weight: Tensor
        self.register_buffer("weight", weight)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, motives: Tensor, primary: Tensor) -> dict[str, Tensor]:
        """Gives `loss` (scalar) and `logits`; raises TrainerError where the loss is no number."""
        logits = self.classifier(input_ids, attention_mask)
        if self.training:
            smooth = self.options.label_smoothing
            motives = motives * (1 - smooth) + smooth / motives.shape[1]
            primary = primary * (1 - smooth) + smooth / primary.shape[1]
        loss = motive_loss(logits, motives, primary, self.weight)
        if self.training and self.options.consistency > 0:
            again = self.classifier(input_ids, attention_mask)
            loss = (loss + motive_loss(again, motives, primary, self.weight)) / 2
            loss = loss + self.options.consistency * divergence(logits, again, motives.shape[1])
        if not torch.isfinite(loss):
            raise TrainerError('the loss is not a number; lower learning_rate, or use precision = "fp32"')
        return {"loss": loss, "logits": logits}


def divergence(a: Tensor, b: Tensor, labels: int) -> Tensor:
    """Symmetric Kullback-Leibler divergence of two passes (Liang and others 2021, arXiv 2106.14448), a mean."""
    p, q = functional.log_softmax(a[:, labels:], dim=1), functional.log_softmax(b[:, labels:], dim=1)
    one = ((p.exp() - q.exp()) * (p - q)).sum(dim=1)
    many = ((torch.sigmoid(a[:, :labels]) - torch.sigmoid(b[:, :labels])) * (a[:, :labels] - b[:, :labels])).sum(dim=1)
    return ((one + many) / 2).mean()


class RunningAverage(TrainerCallback):
    """Moves the learner's average towards the weights after each step, and puts it in their place at the end."""

    def __init__(self, decay: float) -> None:
        self.decay = decay

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        decay = min(self.decay, (1 + state.global_step) / (10 + state.global_step))
        with torch.no_grad():
            for held, value in _averaged(model):
                held.lerp_(value, 1 - decay)

    def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        with torch.no_grad():
            for held, value in _averaged(model):
                value.copy_(held)


def _averaged(learner: Learner) -> list[tuple[nn.Parameter, nn.Parameter]]:
    """Each average with the trained weights that it is of."""
    return list(zip(learner.average.parameters(), trained_parameters(learner.classifier), strict=True))


def trained_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Those that training changes, each once."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


class Watch(TrainerCallback):
    """Says after every step how far the training is."""

    def __init__(self, advance: Advance) -> None:
        self.advance = advance

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.advance(state.global_step, state.max_steps)


def class_weights(primary: NDArray[np.float32], balance: float) -> Tensor:
    """Weight per primary class: its rarity to the power `balance`, mean 1 over the texts. [labels + 1]"""
    counts = primary.sum(axis=0)
    weight = np.where(counts > 0, counts.sum() / np.maximum(counts, 1.0), 1.0) ** balance
    return torch.tensor(weight / (weight * counts).sum() * counts.sum(), dtype=torch.float32)


def parameter_groups(model: MotiveClassifier, options: Optimisation) -> list[dict[str, Any]]:
    """One learning rate per depth: the heads fastest, each layer slower than the one above, the embedding slowest.

    Where layers share their weights, as in ALBERT, the whole backbone has the topmost layer's rate.
    """
    stack = layer_stack(model.backbone) or ()
    depth = {id(p): i for i, layer in enumerate(stack) for p in layer.parameters()}
    backbone = {id(p) for p in model.backbone.parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in trained_parameters(model):
        if id(parameter) not in backbone:
            rate = options.learning_rate * options.head_rate
        else:
            rate = options.learning_rate * options.layer_decay ** (len(stack) - 1 - depth.get(id(parameter), -1))
        decay = options.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": group, "lr": rate, "weight_decay": decay} for (rate, decay), group in groups.items()]


def callbacks(options: Optimisation) -> list[TrainerCallback]:
    """What takes part in the training."""
    watching: list[TrainerCallback] = [RunningAverage(options.average)] if options.average else []
    if options.patience > 0:
        watching.append(EarlyStoppingCallback(options.patience))
    return watching


def check_device(options: Optimisation) -> None:
    """Raises TrainerError where the device or precision asked for is not there."""
    if options.device == "cuda" and not torch.cuda.is_available():
        raise TrainerError(
            'device = "cuda", but torch finds no CUDA device; use device = "auto" or a CUDA build of torch'
        )
    if options.device not in ("auto", "cpu", "cuda"):
        raise TrainerError(f'device = "{options.device}" is none of auto, cpu, cuda')
    on_gpu = options.device != "cpu" and torch.cuda.is_available()
    if options.precision not in ("fp32", "bf16", "fp16"):
        raise TrainerError(f'precision = "{options.precision}" is none of fp32, bf16, fp16')
    if options.precision == "fp16" and not on_gpu:
        raise TrainerError('precision = "fp16" needs a CUDA device; use "bf16" or "fp32"')
    if options.precision == "bf16" and on_gpu and not computes_bf16():
        raise TrainerError('precision = "bf16" would be emulated, slowly, by this CUDA device; use "fp16" or "fp32"')


def begin(options: Optimisation) -> None:
    """Checks the device and sets seeds and threads; to be called before the heads get their first weights."""
    check_device(options)
    set_seed(options.seed)
    keep_memory()
    if options.threads:
        torch.set_num_threads(options.threads)


def keep_memory() -> None:
    """Lets glibc keep the memory that one step frees for the next, where it would fetch it anew page by page.

    Batches differ in length, so that a twentieth of a training on processors went into page faults. Does nothing where
    the C library has no `mallopt`.
    """
    trim_threshold, mmap_max = -1, -4  # malloc.h
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(mmap_max, 0)
        set_option(trim_threshold, 2**31 - 1)


def learn(
    model: MotiveClassifier,
    train: tuple[Ids, Targets],
    held: tuple[Ids, Targets],
    pad_id: int,
    options: Optimisation,
    folder: Path,
    *,
    network: Network | None = None,
    resume: bool = False,
    title: str = "training",
) -> dict[str, float]:
    """Trains `model` in place; checkpoints go to `folder`. Returns Trainer's figures (loss, seconds).

    With `resume`, goes on from the last whole checkpoint; says so on standard error where one was cut off or there is
    none. Without, old checkpoints are removed. `network` is what `model` was made by, which shapes do not wholly tell.
    `title` stands beside the progress bar. Raises TrainerError where the training cannot go on: memory, disk, a loss
    that is no number, checkpoints of another training.
    """
    begin(options)
    if options.freeze_embedding:
        model.backbone.get_input_embeddings().weight.requires_grad_(False)
    learner = Learner(model, class_weights(train[1].primary, options.class_balance), options)
    owner = _identity(learner, network, train)
    checkpoint = _checkpoint(folder, owner) if resume else None
    if checkpoint is None:
        claim(folder, owner)
    optimizer = torch.optim.AdamW(parameter_groups(model, options), lr=options.learning_rate, fused=True)
    trainer = Trainer(
        learner,
        training_arguments(options, folder, len(train[0])),
        data_collator=lambda rows: collate(rows, pad_id),
        train_dataset=Rows(*train),
        eval_dataset=Rows(*held) if options.patience > 0 else None,
        callbacks=callbacks(options),
        optimizers=(optimizer, None),
    )
    trainer.remove_callback(PrinterCallback)
    with bar(title) as advance:
        trainer.add_callback(Watch(advance))
        try:
            result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except (RuntimeError, SafetensorError) as error:  # memory, disk or device
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise TrainerError(
                f"the training could not go on ({reason}); make room on disk, or lower batch, and try again"
            ) from None
    model.to("cpu").eval()
    return {name: float(value) for name, value in result.metrics.items()}


def training_arguments(options: Optimisation, folder: Path, texts: int) -> TrainingArguments:
    """How Trainer is to train on so many texts, on one device: batch and warm-up are then what the config says."""
    steps = max(1, round(options.epochs * texts / options.batch))
    stops = options.patience > 0
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch,
        per_device_eval_batch_size=options.batch * 2,
        learning_rate=options.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=int(options.warmup * steps),
        bf16=options.precision == "bf16",
        fp16=options.precision == "fp16",
        use_cpu=options.device == "cpu" or not torch.cuda.is_available(),
        seed=options.seed,
        data_seed=options.seed,
        train_sampling_strategy="group_by_length",
        eval_strategy="epoch" if stops else "no",
        save_strategy="epoch",
        save_total_limit=2,  # where the newest is cut off by a crash, there is the one before
        load_best_model_at_end=stops,
        metric_for_best_model="loss" if stops else None,
        logging_steps=50,
        report_to=[],
        remove_unused_columns=False,
        label_names=["motives", "primary"],
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=True,
    )
    if arguments.n_gpu > 1:  # Trainer would give each of them a batch; no argument forbids it
        arguments._n_gpu = 1
    return arguments


def _identity(learner: Learner, network: Network | None, train: tuple[Ids, Targets]) -> str:
    """What must be equal for a training to go on from another's checkpoint: network, texts, targets and options."""
    elsewhere = replace(learner.options, device="", threads=0)  # a training may go on on another machine
    held = [*learner.classifier.state_dict().items(), *learner.average.state_dict(prefix="average.").items()]
    shapes = [(name, tuple(value.shape)) for name, value in held]
    digest = hashlib.sha256(repr((shapes, network, elsewhere, train[0])).encode())
    digest.update(train[1].motives.tobytes() + train[1].primary.tobytes())
    return digest.hexdigest()


def _checkpoint(folder: Path, owner: str) -> Path | None:
    if not is_of(folder, owner):
        raise TrainerError(f"the checkpoints in {folder} are of another config or corpus; train without --resume")
    checkpoint, cut_off = last_whole(folder)
    if cut_off:
        where = f"going on from {checkpoint.name}" if checkpoint else "training begins anew"
        say(f"{' and '.join(cut_off)} in {folder} was cut off while it was written; {where}")
    elif checkpoint is None:
        say(f"{folder} holds no checkpoint; training begins anew")
    return checkpoint


def collate(rows: Sequence[dict[str, Any]], pad_id: int) -> dict[str, Tensor]:
    """Pads a batch to its longest text."""
    ids, mask = pad([row["input_ids"] for row in rows], pad_id)
    return {
        "input_ids": torch.from_numpy(ids),
        "attention_mask": torch.from_numpy(mask),
        "motives": torch.from_numpy(np.stack([row["motives"] for row in rows])),
        "primary": torch.from_numpy(np.stack([row["primary"] for row in rows])),
    }
