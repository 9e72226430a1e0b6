"""Cross-fitted votes: teachers that say of every training text what a model thinks that has not learnt it by heart.

The training part is cut into folds. The teacher of a fold trains on the other folds, with texts joined from these, and
votes on the fold it has not seen; with several seeds there are several teachers a fold, and their probabilities are
averaged. A joined text is judged by the teachers of its halves' folds: none of them has seen both halves.
Source of the method: Wolpert 1992, "Stacked generalization".

What a teacher said is kept in a work folder under a name that tells all it depends on, so that a run that was killed
trains only the teachers that are missing, and one with more seeds only the further ones.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sidecar.repository import Taxonomy, atomic, read_taxonomy
from trainer.augment import joined, pairs
from trainer.config import Config
from trainer.distill import soft_votes
from trainer.errors import TrainerError
from trainer.export import trained_logits
from trainer.learn import Targets
from trainer.progress import stage
from trainer.split import Split, fold
from trainer.train import check_learnable, checkpoints, corpus_split, read_trained, train

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Asked:
    """A text that votes are wanted for."""

    text: str
    folds: frozenset[int]
    """The folds whose teachers judge it: its own, or those of the two texts it was joined from."""


@dataclass(frozen=True)
class Teacher:
    """One training: the fold it leaves out, and its seed."""

    fold: int
    seed: int
    config: Config
    parts: Split
    texts: tuple[str, ...]
    """What it judges."""

    @cached_property
    def name(self) -> str:
        """A file name that is another one whenever its votes could be others."""
        config = self.config
        votes = config.optimisation.teacher and _digest(config.resolve(config.optimisation.teacher).read_bytes())
        learnt = [(e.text, e.motives) for part in (self.parts.train, self.parts.calibration) for e in part]
        taxonomy = read_taxonomy(config.taxonomy_path).digest.hex()
        settings = [
            asdict(config.network),
            asdict(replace(config.optimisation, device="", threads=0)),
            (config.data.joined, config.data.seed, config.release.window),
        ]
        facts = json.dumps([settings, taxonomy, votes, learnt, self.texts])
        return f"fold-{self.fold + 1}-seed-{self.seed}-{_digest(facts.encode(errors='surrogatepass'))}"


def teachers(student: Config, teacher: Config, folds: int, seeds: int) -> tuple[list[Asked], list[Teacher]]:
    """The texts that `student` trains on, joined ones included, and the teachers to train for them, seed by seed.

    The teachers learn as `teacher` says under [network] and [optimisation]; the texts are the student's. Raises
    TrainerError where there are fewer than two folds, a fold has no text, or without it a motive has none.
    """
    if folds < 2 or seeds < 1:
        raise TrainerError(f"{folds} folds and {seeds} seeds make no cross-fitting; ask for 2 or more, and 1 or more")
    taxonomy = read_taxonomy(student.taxonomy_path)
    parts = corpus_split(student, taxonomy)
    place = {example.text: fold(example, folds, student.data.seed) for example in parts.train}
    asked = [Asked(example.text, frozenset({place[example.text]})) for example in parts.train]
    asked += [
        Asked(joined(a, b).text, frozenset({place[a.text], place[b.text]}))
        for a, b in pairs(parts.train, student.data.joined, student.data.seed)
    ]
    data = replace(student.data, taxonomy=str(student.taxonomy_path))
    found = []
    for seed in range(teacher.optimisation.seed, teacher.optimisation.seed + seeds):
        optimisation = replace(teacher.optimisation, seed=seed)
        config = replace(teacher, data=data, optimisation=optimisation, release=student.release)
        for one in range(folds):
            seen = tuple(example for example in parts.train if place[example.text] != one)
            if len(seen) == len(parts.train):
                raise TrainerError(f"{len(seen)} training texts are too few for {folds} folds; ask for fewer")
            check_learnable(seen, taxonomy)  # here, not after hours of the teachers before it
            texts = tuple(text.text for text in asked if one in text.folds)
            found.append(Teacher(one, seed, config, replace(parts, train=seen), texts))
    return asked, found


def cross_fitted_votes(
    student: Config, teacher: Config, folds: int, seeds: int, work: Path, *, temperature: float = 1.0,
    offline: bool = False,
) -> tuple[list[str], Targets, Taxonomy]:  # fmt: skip
    """The texts `student` trains on with the mean probabilities of their judges, and the taxonomy.

    `work` is made where it is not there, and keeps each teacher's logits (a few megabytes); raises TrainerError as
    `teachers` and `train` do.
    """
    asked, planned = teachers(student, teacher, folds, seeds)
    taxonomy = read_taxonomy(student.taxonomy_path)
    count = len(taxonomy.codes)
    motives, primary = np.zeros((len(asked), count)), np.zeros((len(asked), count + 1))
    judges = np.zeros((len(asked), 1))
    work.mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(planned, 1):
        title = f"teacher {number} of {len(planned)} (fold {one.fold + 1}, seed {one.seed})"
        logits = kept(work / f"{one.name}.npy", partial(_said, one, work, title, offline))
        shutil.rmtree(work / one.name, ignore_errors=True)  # only now: what it said is on disk
        votes = soft_votes([logits], count, temperature)
        rows = [i for i, text in enumerate(asked) if one.fold in text.folds]
        motives[rows] += votes.motives
        primary[rows] += votes.primary
        judges[rows] += 1
    mean = Targets((motives / judges).astype(np.float32), (primary / judges).astype(np.float32))
    return [one.text for one in asked], mean, taxonomy


def kept(path: Path, make: Callable[[], Floats]) -> Floats:
    """The array in `path`, made and written first where there is none; a kill leaves the whole file or none."""
    if not path.exists():
        array = make()
        with atomic.replaced_file(path) as stream:
            np.save(stream, array)
    loaded: Floats = np.load(path)
    return loaded


def _said(teacher: Teacher, work: Path, title: str, offline: bool) -> Floats:
    """Trains a teacher, unless it lies there already, and asks it for the logits of its texts."""
    folder = work / teacher.name
    if not (folder / "training.json").exists():
        begun = checkpoints(folder).is_dir()
        train(teacher.config, folder, parts=teacher.parts, resume=begun, offline=offline, title=title, to_export=False)
    with stage(f"{title}: asking it of {len(teacher.texts)} texts"):
        return trained_logits(read_trained(folder), teacher.texts, teacher.config.release.window)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
