"""A directory of releases: model repositories side by side, and a link that says which one is served.

    DIRECTORY/
      current -> releases/motive-1a2b3c4d      what sidecars serve; replaced in one step
      previous -> releases/motive-99aa88bb     what `motive release --rollback` goes back to
      releases/motive-1a2b3c4d/                a model repository, whole before it has its name
      triton/motive-1a2b3c4d/                  the same model as Triton wants it (sidecar.triton_repository)

Whoever may write here may release: there is no remote call that changes the model.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sidecar.errors import ConfigError
from sidecar.repository import Repository, atomic

CURRENT = "current"
PREVIOUS = "previous"
LINKS = (CURRENT, PREVIOUS)
RELEASES = "releases"
TRITON = "triton"


def is_releases(path: Path) -> bool:
    """Whether `path` is a directory of releases rather than a model repository."""
    return (path / CURRENT).is_symlink() or (path / RELEASES).is_dir()


def resolve(path: Path) -> Path:
    """The model repository to serve: what `current` leads to, or `path` itself where it is a repository."""
    if not is_releases(path):
        return path
    link = path / CURRENT
    if not link.is_symlink():
        raise ConfigError(f"{path} holds no release yet", "Make one: motive release PATH.")
    return path / os.readlink(link)


def resolve_previous(path: Path) -> Path | None:
    """What `previous` leads to, where `path` is a directory of releases that has such a release."""
    link = path / PREVIOUS
    return path / os.readlink(link) if link.is_symlink() and link.is_dir() else None


def release_name(repository: Repository) -> str:
    """`NAME-DIGEST8`: the directory's name, and the model's name in Triton."""
    return f"{repository.manifest.name}-{repository.manifest.digest.hex()[:8]}"


def homes(directory: Path) -> list[Path]:
    """The directory of each release, by name; what else lies beside them, links included, is none."""
    found = sorted((directory / RELEASES).glob("[!.]*"))
    return [home for home in found if home.is_dir() and not home.is_symlink()]


def publish(destination: Path, fill: Callable[[Path], None], *, anew: bool = False) -> bool:
    """Makes the directory `destination` in one step, so that nobody ever sees a part of it; False where it exists.

    `fill` writes the files into the empty directory it is given. `anew` puts it in the place of one that exists.
    """
    try:
        _make_home(destination.parent)
        if anew:
            atomic.replace(destination, fill)
            return True
        return atomic.create(destination, fill)
    except OSError as error:
        raise ConfigError(f"cannot write {destination}: {error.strerror}", "Check space and permissions.") from None


def _make_home(folder: Path) -> None:
    """Makes the directory; who releases may have a umask that would close it to who serves."""
    if not folder.is_dir():
        _make_home(folder.parent)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)


def open_to_readers(home: Path) -> None:
    """Lets everybody read a release: sidecars and Triton are often other users than the one who releases."""
    try:
        for path in (home, *home.rglob("*")):
            mode = path.stat().st_mode
            wanted = mode | (0o555 if path.is_dir() else 0o444)
            if wanted != mode:
                path.chmod(wanted)
    except OSError as error:
        raise ConfigError(f"{home} cannot be made readable: {error.strerror}", "Release as its owner.") from None


def activate(directory: Path, name: str) -> None:
    """Makes release `name` the current one, and the one before it the previous."""
    current = directory / CURRENT
    if current.is_symlink() and (before := os.readlink(current)) != f"{RELEASES}/{name}":
        _link(directory / PREVIOUS, before)
    _link(current, f"{RELEASES}/{name}")


@dataclass(frozen=True)
class Links:
    """What `current` and `previous` lead to; None where there is no such link."""

    current: str | None
    previous: str | None


def links(directory: Path) -> Links:
    """The links as they are."""
    current, before = (os.readlink(link) if (link := directory / name).is_symlink() else None for name in LINKS)
    return Links(current, before)


def restore(directory: Path, links: Links) -> None:
    """Puts the links back to what they were."""
    for name, target in zip(LINKS, (links.current, links.previous), strict=True):
        if target is not None:
            _link(directory / name, target)
        else:
            (directory / name).unlink(missing_ok=True)


def previous(directory: Path) -> str:
    """The name of the release that a rollback goes back to; raises ConfigError where there is none."""
    link = directory / PREVIOUS
    if not link.is_symlink():
        raise ConfigError(f"{directory} has no previous release", "Nothing was released before the current one.")
    return Path(os.readlink(link)).name


def _link(link: Path, target: str) -> None:
    draft = link.with_name(f".{link.name}-{os.getpid()}")
    draft.unlink(missing_ok=True)
    draft.symlink_to(target)
    draft.replace(link)
    atomic.sync_one(link.parent)
