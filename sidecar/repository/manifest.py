"""Opening a model repository: its manifest, and the checks that make a half-written or altered one refused."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from sidecar.repository.calibration import Calibration
from sidecar.repository.taxonomy import Taxonomy, read_taxonomy

MANIFEST = "manifest.json"
REQUIRED = ("taxonomy.toml", "calibration.json", "tokenizer.json", "config.pbtxt", "1/model.onnx")

_PLAIN = re.compile(r"\w[\w .:~+-]{0,99}")
"""A name or a version: both become parts of a model version, and the name parts of paths and of Triton's config."""


class RepositoryError(Exception):
    """The model repository cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Tokens:
    """How texts become tokens. A text longer than `window` is read in windows that overlap."""

    window: int = 256
    """Tokens in one window, special tokens included."""
    stride: int = 192
    """Tokens from the start of one window to the start of the next."""
    prefix: str = ""
    """Put before every text (some encoders are trained with one)."""
    pad_id: int = 0


@dataclass(frozen=True)
class Manifest:
    """What manifest.json says."""

    name: str
    version: str
    """Semantic version of the training; a derived variant adds a suffix, such as 1.0.0+int8."""
    variant: str
    """"source", or what `motive model build` derived it to: "cpu-int8", "cpu-fp32", "gpu-fp16"."""
    base: str
    """The encoder it was trained from, as a hub id."""
    labels: tuple[str, ...]
    primary_head: bool
    tokens: Tokens
    taxonomy_digest: str
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256, hexadecimal, of every other file, by its path inside the repository."""

    @property
    def digest(self) -> bytes:
        """SHA-256, 32 bytes, of the manifest and, through `files`, of all that the model is."""
        return hashlib.sha256(json.dumps(asdict(self), ensure_ascii=False, sort_keys=True).encode()).digest()

    def write(self, path: Path) -> None:
        """Writes manifest.json into the directory `path`."""
        text = json.dumps({"format": 1, **asdict(self)}, ensure_ascii=False, indent=1)
        (path / MANIFEST).write_text(text + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Repository:
    """An opened and checked model repository."""

    path: Path
    manifest: Manifest
    taxonomy: Taxonomy
    calibration: Calibration

    @property
    def model_version(self) -> str:
        """`name@version/digest8`, as it stands on every annotated row."""
        return f"{self.manifest.name}@{self.manifest.version}/{self.manifest.digest.hex()[:8]}"

    @property
    def onnx_path(self) -> Path:
        """The model's ONNX file."""
        return self.path / "1" / "model.onnx"


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_manifest(path: Path) -> Manifest:
    try:
        fields: dict[str, Any] = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RepositoryError(
            f"{path} is no model repository: it has no {MANIFEST}; give the directory of one"
        ) from None
    except ValueError as error:
        raise RepositoryError(f"{path / MANIFEST} is not JSON: {error}; export the model again") from None
    if fields.pop("format", None) != 1:
        raise RepositoryError(f"{path / MANIFEST} is of another format; upgrade pg_motive or export the model again")
    try:
        fields["tokens"] = Tokens(**fields["tokens"])
        fields["labels"] = tuple(fields["labels"])
        manifest = Manifest(**fields)
    except (KeyError, TypeError) as error:
        raise RepositoryError(f"{path / MANIFEST} lacks a field or has one too many: {error}") from None
    _check_names(path, manifest)
    return manifest


def _check_names(path: Path, manifest: Manifest) -> None:
    """A repository may be a stranger's: what it names must not lead out of the directories that it is copied to."""
    for key, value in (("name", manifest.name), ("version", manifest.version)):
        if not isinstance(value, str) or not _PLAIN.fullmatch(value):
            raise RepositoryError(
                f"{path / MANIFEST} has the {key} {value!r}; give it one of at most 100 letters, digits, blanks and "
                "._:~+-, beginning with a letter or digit"
            )
    for name in manifest.files:
        parts = PurePosixPath(name).parts
        if "/".join(parts) != name or {"..", "/"} & {*parts} or not name.isprintable():
            raise RepositoryError(f"{path / MANIFEST} lists {name!r}, which is no path inside the repository")


def open_repository(path: Path, *, verify: bool = True) -> Repository:
    """Opens the repository at `path`; with `verify`, compares every file with the manifest's SHA-256.

    Raises RepositoryError when a file is missing, altered or closed to this user, or taxonomy, labels and calibration
    disagree; TaxonomyError when the taxonomy is none.
    """
    try:
        return _open(path, verify)
    except OSError as error:
        raise RepositoryError(
            f"{error.filename or path} cannot be read: {error.strerror}; let this user read the whole directory"
        ) from None


def copy_files(repository: Repository, names: Iterable[str], target: Path) -> None:
    """Copies files that the manifest lists, and nothing else, into the directory `target`.

    Raises RepositoryError for a symbolic link: what it leads to may be closed to those who will read the copy.
    """
    for name in names:
        source = repository.path / name
        for part in (source, *source.parents[: name.count("/")]):
            if part.is_symlink():
                raise RepositoryError(f"{part} is a symbolic link; put the file itself there")
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target / name, follow_symlinks=False)


def _open(path: Path, verify: bool) -> Repository:
    manifest = _read_manifest(path)
    for name in sorted({*REQUIRED, *manifest.files}):
        if not (path / name).is_file():
            raise RepositoryError(f"{path} has no {name}; export or build the model again")
        if name not in manifest.files:
            raise RepositoryError(f"{path / MANIFEST} does not list {name}; export or build the model again")
        if verify and file_digest(path / name) != manifest.files[name]:
            raise RepositoryError(f"{path / name} is not the file the manifest lists; export or build the model again")
    try:
        calibration = Calibration.read(path / "calibration.json")
    except (ValueError, KeyError, TypeError) as error:
        raise RepositoryError(f"{path / 'calibration.json'} cannot be read: {error}") from None
    taxonomy = read_taxonomy(path / "taxonomy.toml")
    if not (taxonomy.codes == manifest.labels == calibration.labels):
        raise RepositoryError(
            f"{path}: taxonomy, manifest and calibration name different labels; export the model again"
        )
    if taxonomy.digest.hex() != manifest.taxonomy_digest:
        raise RepositoryError(f"{path}: the taxonomy is not the one the model was trained for; train it anew")
    if calibration.primary != manifest.primary_head:
        raise RepositoryError(f"{path}: calibration and manifest disagree about a primary head; export the model again")
    return Repository(path, manifest, taxonomy, calibration)
