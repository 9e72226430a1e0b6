"""The directory of releases: whole or not there, switched in one step, and back again."""

from pathlib import Path

import pytest

from sidecar.errors import ConfigError
from sidecar.releases import activate, is_releases, previous, publish, resolve


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
