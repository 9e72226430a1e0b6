"""A model repository of a stranger's: what it names stays inside it, and nothing else of its disk is copied."""

import json
from pathlib import Path
from typing import Any

import pytest

from sidecar.repository import RepositoryError, copy_files, open_repository
from tests.fixtures.tiny_model import write_tiny_model


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "model")


def rewrite(path: Path, **changes: Any) -> None:
    """Puts other values into the manifest."""
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    (path / "manifest.json").write_text(json.dumps({**manifest, **changes}), encoding="utf-8")


@pytest.mark.parametrize("key", ["name", "version"])
@pytest.mark.parametrize(
    "value", ["../../../outside", "/tmp/x", "..", ".hidden", "", "a/b", "a@b", 'a"b', "a\nb", "-x", "a" * 101, 7, None]
)
def test_a_name_or_version_that_is_none_is_refused(path: Path, key: str, value: object) -> None:
    rewrite(path, **{key: value})
    with pytest.raises(RepositoryError, match=f"has the {key} "):
        open_repository(path)


@pytest.mark.parametrize("value", ["motive", "My model_2", "评论", "1.0.0+int8", "2026-11-27T10:00", "a..b"])
def test_any_harmless_name_and_version_will_do(path: Path, value: str) -> None:
    rewrite(path, name=value, version=value)
    assert open_repository(path).manifest.name == value


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a/../../b", "./a", "a//b", "a/", "a\0b"])
def test_a_listed_file_that_is_outside_is_refused(path: Path, name: str) -> None:
    manifest = open_repository(path).manifest
    rewrite(path, files={**manifest.files, name: "0" * 64})
    with pytest.raises(RepositoryError, match="no path inside the repository"):
        open_repository(path)


@pytest.mark.parametrize("name", ["tokenizer.json", "1", "1/model.onnx"])
def test_links_are_not_followed_by_a_copy(path: Path, tmp_path: Path, name: str) -> None:
    """A root's release would else publish what they lead to."""
    (path / name).rename(tmp_path / "elsewhere")
    (path / name).symlink_to(tmp_path / "elsewhere")
    repository = open_repository(path)
    with pytest.raises(RepositoryError, match="is a symbolic link"):
        copy_files(repository, repository.manifest.files, tmp_path / "copy")
