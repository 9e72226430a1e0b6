"""What is put in place is whole: a failure at any moment leaves what was there, and nothing beside it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.repository import atomic


def write(text: str) -> atomic.Fill:
    def fill(path: Path) -> None:
        (path / "deep").mkdir()
        (path / "deep" / "file").write_text(text)

    return fill


def half(path: Path) -> None:
    """A disk that is full in the middle."""
    (path / "file").write_text("half")
    raise OSError(28, "No space left on device")


def test_a_directory_replaces_an_older_one_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    for name in ("model", "old"):
        for text in ("one", "two"):
            atomic.replace(tmp_path / "there" / name, write(text))
            assert (tmp_path / "there" / name / "deep" / "file").read_text() == text
            assert (tmp_path / "there" / name).stat().st_mode & 0o777 == 0o755
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["model", "old"]


def test_a_directory_that_is_there_is_not_created_again(tmp_path: Path) -> None:
    assert atomic.create(tmp_path / "model", write("one"))
    assert not atomic.create(tmp_path / "model", write("two"))
    assert (tmp_path / "model" / "deep" / "file").read_text() == "one"


def test_whoever_comes_second_keeps_what_the_first_made(tmp_path: Path) -> None:
    def slower(path: Path) -> None:
        assert atomic.create(tmp_path / "model", write("first"))
        write("second")(path)

    assert not atomic.create(tmp_path / "model", slower)
    assert (tmp_path / "model" / "deep" / "file").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("make", [atomic.create, atomic.replace])
def test_a_full_disk_leaves_nothing(tmp_path: Path, make: Callable[[Path, atomic.Fill], object]) -> None:
    with pytest.raises(OSError, match="No space left"):
        make(tmp_path / "model", half)
    assert list(tmp_path.iterdir()) == []


def test_a_replacement_swaps_names_so_that_no_kill_leaves_a_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    if not atomic.swap(tmp_path / "one", tmp_path / "two"):
        pytest.skip("this file system cannot swap names")

    def refuses(path: Path, target: Path) -> Path:
        raise AssertionError(f"{path} was moved aside")

    atomic.replace(tmp_path / "model", write("one"))
    monkeypatch.setattr(Path, "rename", refuses)
    atomic.replace(tmp_path / "model", write("two"))
    assert (tmp_path / "model" / "deep" / "file").read_text() == "two"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "one", "two"]


def test_a_replacement_that_fails_keeps_the_older_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    atomic.replace(tmp_path / "model", write("one"))
    with pytest.raises(OSError, match="No space left"):
        atomic.replace(tmp_path / "model", half)
    rename = Path.rename

    def refuses(path: Path, target: Path) -> Path:
        if path.name == "model" and path.parent != tmp_path:
            raise OSError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(atomic, "swap", lambda *_: False)
    monkeypatch.setattr(Path, "rename", refuses)
    with pytest.raises(OSError, match="Permission denied"):
        atomic.replace(tmp_path / "model", write("two"))
    assert (tmp_path / "model" / "deep" / "file").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_file_is_the_old_one_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "votes"

    def put(text: bytes, error: Exception | None = None) -> None:
        with atomic.replaced_file(path) as stream:
            stream.write(text)
            if error:
                raise error

    put(b"one")
    with pytest.raises(RuntimeError):
        put(b"tw", RuntimeError())
    assert path.read_bytes() == b"one"
    assert [found.name for found in tmp_path.iterdir()] == ["votes"]
