"""The one config file of a training: TOML, every key with a default, unknown keys refused."""

import math
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from trainer.errors import TrainerError


@dataclass(frozen=True)
class Data:
    """[data]: what is learnt from, and how it is split."""

    corpus: tuple[str, ...] = ("corpus/*.jsonl",)
    """Files of labelled texts; patterns are relative to the config file."""
    taxonomy: str = "taxonomy.toml"
    calibration_share: float = 0.1
    """Share of the texts held out to calibrate and to set thresholds."""
    test_share: float = 0.1
    """Share held out to evaluate; neither trained nor calibrated on."""
    joined: float = 0.0
    """How many joined texts are added per training text (trainer.augment); 0 adds none."""
    seed: int = 17


@dataclass(frozen=True)
class Network:
    """[network]: the backbone and what is kept of it."""

    base: str = "intfloat/multilingual-e5-small"
    layers: tuple[int, ...] = ()
    """Layers to keep, 0 next to the embedding; empty keeps all."""
    trim_vocabulary: bool = False
    """Keeps only the pieces of two languages and of the corpus; of Unigram tokenizers (XLM-R, e5, mDeBERTa) alone."""
    pooling: str = ""
    """"mean", "last" or "labels"; empty chooses mean, or last for decoders."""
    dropout: float = 0.1
    lora_rank: int = 0
    """0 trains all weights; above 0, low-rank adapters of that rank, merged at the end."""
    prefix: str = ""
    """Put before every text (some encoders are trained with one)."""
    max_tokens: int = 192
    """Longer texts are cut in training; serving reads them in windows."""


@dataclass(frozen=True)
class Optimisation:
    """[optimisation]: how it is learnt."""

    epochs: float = 6.0
    batch: int = 32
    learning_rate: float = 1e-4
    layer_decay: float = 0.9
    """Each layer below learns at this factor of the rate of the one above."""
    head_rate: float = 10.0
    """The heads learn at this multiple of the learning rate."""
    freeze_embedding: bool = False
    warmup: float = 0.1
    weight_decay: float = 0.01
    label_smoothing: float = 0.05
    class_balance: float = 0.0
    """0: every text counts alike; 1: every primary class counts alike; between: in between."""
    consistency: float = 0.0
    """Weight of the divergence between two passes with different dropout (R-drop); 0 does one pass."""
    average: float = 0.0
    """Decay per step of the running average of the weights that is kept in the end (EMA); 0 keeps the last weights."""
    device: str = "auto"
    """"auto" takes a CUDA device where there is one; or "cpu", "cuda". Where there are several, one trains:
    the first, or that which CUDA_VISIBLE_DEVICES names."""
    precision: str = "fp32"
    """"fp32", "bf16", or "fp16" for a CUDA device that would emulate bf16, such as a T4."""
    patience: int = 0
    """Evaluations without improvement before training stops early; 0 never stops early."""
    seed: int = 17
    threads: int = 0
    """Processor threads; 0 leaves the choice to torch."""
    teacher: str = ""
    """JSON Lines of a teacher's probabilities (`distill` writes it); empty learns from the labels alone."""
    teacher_share: float = 0.5


@dataclass(frozen=True)
class Release:
    """[release]: what the exported model is called."""

    name: str = "motive"
    version: str = "0.1.0"
    window: int = 256
    stride: int = 192
    calibration: str = "platt"
    """How a motive's logit becomes a probability: "platt", "isotonic", or "best": for each motive the one of the two
    that does better on texts it was not fitted on."""


@dataclass(frozen=True)
class Config:
    """A whole config file."""

    path: Path
    data: Data = field(default_factory=Data)
    network: Network = field(default_factory=Network)
    optimisation: Optimisation = field(default_factory=Optimisation)
    release: Release = field(default_factory=Release)

    @property
    def taxonomy_path(self) -> Path:
        """The file of the labels."""
        return self.resolve(self.data.taxonomy)

    def resolve(self, name: str) -> Path:
        """A path of the file, which is relative to the file itself."""
        return (self.path.parent / name).resolve()

    def corpus_files(self) -> list[Path]:
        """The corpus files, sorted; raises TrainerError where a pattern matches none."""
        found: list[Path] = []
        for pattern in self.data.corpus:
            base = Path(pattern)
            root = Path(base.anchor) if base.is_absolute() else self.path.parent
            matches = sorted(root.glob(str(base.relative_to(base.anchor) if base.is_absolute() else base)))
            if not matches:
                raise TrainerError(f"{self.path}: no file matches {pattern}; mend [data] corpus")
            found += matches
        return sorted(set(found))


ITEMS = {"corpus": str, "layers": int}
"""What the lists hold."""
ABOVE_ZERO = ("epochs", "batch", "learning_rate", "layer_decay", "head_rate", "stride")
SHARES = (
    "calibration_share", "test_share", "dropout", "warmup", "label_smoothing", "class_balance", "average",
    "teacher_share",
)  # fmt: skip
LEAST_TOKENS = 8
"""max_tokens and window hold the special tokens and some of the text."""
CALIBRATIONS = ("platt", "isotonic", "best")
SECTIONS = {"data": Data, "network": Network, "optimisation": Optimisation, "release": Release}


def read_config(path: Path) -> Config:
    """Reads a config file; raises TrainerError naming an unknown section or key, or a value that cannot be."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TrainerError(f"{path} does not exist; give a config file with --config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TrainerError(f"{path} is not TOML: {error}") from None
    for name in tables:
        if name not in SECTIONS:
            raise TrainerError(f"{path}: no section [{name}]; there are {', '.join(SECTIONS)}")
        if not isinstance(tables[name], dict):
            raise TrainerError(f"{path}: {name} is no section; write [{name}] and its keys below")
    config = Config(path, **{name: _section(path, name, tables.get(name, {})) for name in SECTIONS})
    _check_together(config)
    return config


def _check_together(config: Config) -> None:
    """Raises TrainerError where keys that are good alone do not go together."""
    data, optimisation = config.data, config.optimisation
    if data.calibration_share + data.test_share >= 1:
        raise TrainerError(f"{config.path}: calibration_share and test_share leave no text to train on; lower one")
    if optimisation.patience and not data.calibration_share:
        raise TrainerError(f"{config.path}: patience needs texts held out to judge by; raise calibration_share")
    if optimisation.patience and optimisation.average:
        raise TrainerError(
            f"{config.path}: patience keeps the best weights and average their mean, not both; set one of them to 0"
        )


def _section(path: Path, name: str, table: dict[str, Any]) -> Any:
    kind = SECTIONS[name]
    types = {f.name: type(f.default) for f in fields(kind)}
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in types:
            raise TrainerError(f"{path}: [{name}] has no key {key}; there are {', '.join(types)}")
        wanted = types[key]
        given = (
            tuple(value)
            if isinstance(value, list)
            else float(value)
            if wanted is float and type(value) is int
            else value
        )
        if type(given) is not wanted:
            raise TrainerError(f"{path}: [{name}] {key} = {value!r} should be of type {wanted.__name__}")
        _check_value(f"{path}: [{name}] {key} = {value!r}", key, given)
        values[key] = given
    return kind(**values)


def _check_value(said: str, key: str, value: Any) -> None:
    """Raises TrainerError, beginning with what the file `said`, where a value is out of its range."""
    if isinstance(value, tuple):
        wanted = ITEMS[key]
        if not all(type(item) is wanted for item in value):
            raise TrainerError(f"{said} should hold values of type {wanted.__name__}")
        if wanted is int and min(value, default=0) < 0:
            raise TrainerError(f"{said} should hold numbers from 0 up")
    elif isinstance(value, int | float):
        if not math.isfinite(value) or value < 0:
            raise TrainerError(f"{said} should be a number from 0 up")
        if key in ABOVE_ZERO and value == 0:
            raise TrainerError(f"{said} should be above 0")
        if key in SHARES and value > 1:
            raise TrainerError(f"{said} should be a share, from 0 to 1")
        if key in ("max_tokens", "window") and value < LEAST_TOKENS:
            raise TrainerError(f"{said} should be {LEAST_TOKENS} or more")
    elif key == "calibration" and value not in CALIBRATIONS:
        raise TrainerError(f"{said} is none of {', '.join(CALIBRATIONS)}")
