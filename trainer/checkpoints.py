"""Which checkpoint a training can go on from: the last one that lies on disk as a whole.

A kill or a full disk in the middle of writing leaves a checkpoint with files that are cut off or not there. Each file
tells by its form whether it is whole. The weights alone bear no checksum: what a crash of the machine blanks in the
midst of them is not seen.
"""

import json
import re
import shutil
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open

NAME = re.compile(r"checkpoint-(\d+)")
FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")
"""What every checkpoint holds."""
OWNER = "training.sha256"
"""Beside the checkpoints: what training they are of."""


def claim(folder: Path, owner: str) -> None:
    """Empties `folder` for a new training, known by `owner`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / OWNER).write_text(owner + "\n", encoding="utf-8")


def is_of(folder: Path, owner: str) -> bool:
    """Whether the checkpoints in `folder` are of the training `owner`; True where there is no checkpoint."""
    note = folder / OWNER
    return not any(folder.glob("checkpoint-*")) or (
        note.is_file() and note.read_text(encoding="utf-8").strip() == owner
    )


def last_whole(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint in `folder`, or None, and the names of newer ones that were cut off, which are
    removed.

    A folder that is not there holds none.
    """
    found = [(int(match[1]), path) for path in folder.glob("checkpoint-*") if (match := NAME.fullmatch(path.name))]
    cut_off: list[str] = []
    for _, path in sorted(found, reverse=True):
        if is_whole(path):
            return path, cut_off
        cut_off.append(path.name)
        shutil.rmtree(path)
    return None, cut_off


def is_whole(checkpoint: Path) -> bool:
    """Whether every file of a checkpoint is there to its end."""
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        with safe_open(checkpoint / "model.safetensors", "pt"):
            pass  # opening compares the file's length with what its head promises
        return all(_is_whole_archive(checkpoint / name) for name in FILES if name.endswith((".pt", ".pth")))
    except (OSError, ValueError, SafetensorError):
        return False


def _is_whole_archive(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:  # torch's own form; every member bears a checksum
            return archive.testzip() is None
    except zipfile.BadZipFile:
        return False
