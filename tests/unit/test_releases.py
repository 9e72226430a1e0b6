"""The directory of releases: whole or not there, switched in one step, and back again."""

import os
import stat
from pathlib import Path

import pytest

from sidecar.errors import ConfigError, UnavailableError
from sidecar.release import Sidecars, listing, prune, release
from sidecar.releases import activate, is_releases, links, previous, publish, resolve
from sidecar.repository import open_repository
from tests.fixtures.tiny_model import write_tiny_model


def fill(text: str) -> object:
    def write(path: Path) -> None:
        (path / "file").write_text(text)

    return write


def test_a_release_is_whole_before_it_has_its_name(tmp_path: Path) -> None:
    """F62 what fails on the way leaves nothing behind."""

    def breaks(path: Path) -> None:
        (path / "file").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(ConfigError, match="No space left"):
        publish(tmp_path / "releases" / "a", breaks)
    assert list((tmp_path / "releases").iterdir()) == []


def test_a_release_of_the_same_name_is_kept_as_it_is(tmp_path: Path) -> None:
    assert publish(tmp_path / "releases" / "a", fill("one"))  # type: ignore[arg-type]
    assert not publish(tmp_path / "releases" / "a", fill("two"))  # type: ignore[arg-type]
    assert (tmp_path / "releases" / "a" / "file").read_text() == "one"


def test_the_link_goes_forward_and_back(tmp_path: Path) -> None:
    for name in "ab":
        publish(tmp_path / "releases" / name, fill(name))  # type: ignore[arg-type]
    activate(tmp_path, "a")
    with pytest.raises(ConfigError, match="no previous release"):
        previous(tmp_path)
    activate(tmp_path, "b")
    activate(tmp_path, "b")
    assert (resolve(tmp_path).name, previous(tmp_path)) == ("b", "a")
    activate(tmp_path, previous(tmp_path))
    assert (resolve(tmp_path).name, previous(tmp_path)) == ("a", "b")


def test_a_repository_is_no_directory_of_releases(tiny_repository: Path, tmp_path: Path) -> None:
    assert not is_releases(tiny_repository)
    assert resolve(tiny_repository) == tiny_repository
    (tmp_path / "releases").mkdir()
    with pytest.raises(ConfigError, match="holds no release yet"):
        resolve(tmp_path)


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A directory with three releases."""
    for number in (1, 2, 3):
        path = write_tiny_model(tmp_path / str(number), version=f"0.0.{number}+tiny")
        release(path, tmp_path / "models", backend="cpu", say=lambda _: None)
    return tmp_path / "models"


@pytest.mark.parametrize("end", [KeyboardInterrupt(), ConfigError("no token"), MemoryError(), RuntimeError()])
def test_whatever_ends_the_wait_for_a_sidecar_sets_the_links_back(
    released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: BaseException
) -> None:
    """The next sidecar to start would else serve what none has confirmed."""

    def ask(sidecars: Sidecars, target: str) -> None:
        raise end

    before = links(released)
    monkeypatch.setattr(Sidecars, "ask", ask)
    path = write_tiny_model(tmp_path / "new", version="0.0.4+tiny")
    with pytest.raises(type(end)):
        release(path, released, sidecars=Sidecars(("unix:/nowhere",)), say=lambda _: None)
    assert links(released) == before


def test_a_token_that_cannot_be_read_is_one_sentence(released: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes("schlüssel".encode())
    sidecars = Sidecars(("unix:/nowhere",), token_file=str(tmp_path / "token"))
    with pytest.raises(ConfigError, match="it is not ASCII"):
        release(tmp_path / "1", released, sidecars=sidecars, say=lambda _: None)


def test_what_is_released_can_be_read_by_others_whatever_the_umask(tmp_path: Path) -> None:
    """Sidecars and Triton run as users of their own."""
    path = write_tiny_model(tmp_path / "model")
    (path / "tokenizer.json").chmod(0o600)
    before = os.umask(0o077)
    try:
        release(path, tmp_path / "of" / "models", backend="python", say=lambda _: None)
    finally:
        os.umask(before)
    for one in (tmp_path / "of", *(tmp_path / "of").rglob("*")):
        wanted = 0o555 if one.is_dir() else 0o444
        assert stat.S_IMODE(one.stat().st_mode) & wanted == wanted, one


def test_what_the_manifest_does_not_list_is_not_released(tmp_path: Path) -> None:
    """Whoever filled the repository may have put a link there to what only the releasing user can read."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "secret").chmod(0o600)
    path = write_tiny_model(tmp_path / "model")
    (path / "notes.txt").symlink_to(tmp_path / "secret")
    release(path, tmp_path / "models", backend="cpu", say=lambda _: None)
    home = resolve(tmp_path / "models")
    listed = open_repository(path).manifest.files
    assert {str(file.relative_to(home)) for file in home.rglob("*") if file.is_file()} == {"manifest.json", *listed}
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_a_repository_with_a_link_is_refused_before_anything_is_released(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "model")
    (path / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    (path / "tokenizer.json").symlink_to(tmp_path / "tokenizer.json")
    with pytest.raises(ConfigError, match=r"tokenizer\.json is a symbolic link"):
        release(path, tmp_path / "models", say=lambda _: None)
    assert list((tmp_path / "models" / "releases").iterdir()) == []


def test_what_lies_beside_the_releases_is_neither_listed_nor_removed(released: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (released / "releases" / "link").symlink_to(tmp_path / "kept")
    (released / "releases" / "notes.txt").write_text("mine")
    assert len(listing(released)) == 3
    assert len(prune(released)) == 1
    assert (tmp_path / "kept").is_dir()
    assert (released / "releases" / "notes.txt").is_file()


def test_a_triton_that_cannot_be_asked_to_unload_keeps_every_release(released: Path) -> None:
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:9 cannot be asked"):
        prune(released, ["127.0.0.1:9"])
    assert len(list((released / "releases").iterdir())) == 3
    assert len(prune(released)) == 1
