"""Directories and files that are whole or not there, whenever the process is killed or the disk is full.

They are filled under another name in a hidden folder beside, synced, and get their name by one rename. A kill leaves at
most that hidden folder, in which nothing lies where a server would look for a model.
"""

import ctypes
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

Fill = Callable[[Path], None]
"""Writes the files into the empty directory it is given."""


def create(path: Path, fill: Fill) -> bool:
    """Makes the directory `path`; False where it exists already, which stays as it is. Raises OSError."""
    if path.exists():
        return False
    try:
        with _filled(path, fill) as draft:
            draft.rename(path)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY) and path.exists():  # another process was faster
            return False
        raise
    return True


def replace(path: Path, fill: Fill) -> None:
    """Makes the directory `path`, in the place of an older one. Raises OSError; the older one stays where it does.

    A kill leaves one of the two at `path`. Only where the file system cannot swap two names is there a gap between two
    renames, in which a kill leaves the older one in the hidden folder and nothing at `path`.
    """
    with _filled(path, fill) as draft:
        put_in_place(draft, path)


@contextmanager
def replaced_file(path: Path) -> Iterator[BinaryIO]:
    """A stream whose bytes are the file `path` once the block ends well; until then an older file stays."""
    stage = _stage(path)
    try:
        with (stage / path.name).open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        (stage / path.name).replace(path)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    sync_one(path.parent)


@contextmanager
def _filled(path: Path, fill: Fill) -> Iterator[Path]:
    """The directory that `fill` has filled, synced, to be renamed to `path` in the block."""
    stage = _stage(path)
    draft = stage / path.name
    try:
        draft.mkdir()
        fill(draft)
        draft.chmod(0o755)
        sync(draft)
        yield draft
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    sync_one(path.parent)


def _stage(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))


def put_in_place(draft: Path, path: Path) -> None:
    """Renames `draft` to `path`; a directory cannot be renamed over, so an older one swaps names or steps aside."""
    if path.exists() and swap(draft, path):
        return
    aside = draft.with_name(draft.name + ".old")
    if path.exists():
        path.rename(aside)
    try:
        draft.rename(path)
    except OSError:
        if aside.exists():
            aside.rename(path)
        raise


def swap(one: Path, other: Path) -> bool:
    """Swaps two names in one step, as Linux does; False where system or file system cannot, and nothing has changed."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return rename is not None and rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def sync(folder: Path) -> None:
    """Waits until every file and folder under `folder` is on disk."""
    for path in (*folder.rglob("*"), folder):
        sync_one(path)


def sync_one(path: Path) -> None:
    """Waits until one file's bytes, or one folder's names, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
