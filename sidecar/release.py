"""`motive release`: a model put beside the one that serves, checked, made known to the databases, and switched to.

The order makes every step harmless: a release that breaks on the way leaves the old one serving. Each sidecar opens the
new one beside the old and tries it; one that refuses it has the link set back, so that all go on with the old one.
"""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc
import psycopg

from sidecar import releases
from sidecar.bearer import authorization
from sidecar.errors import ConfigError, InternalError, UnavailableError
from sidecar.pb import motive_pb2 as pb
from sidecar.pb.motive_pb2_grpc import MotiveStub
from sidecar.repository import Motive, Repository, RepositoryError, TaxonomyError, copy_files, open_repository
from sidecar.tls import CertificateFiles, client_channel, client_credentials
from sidecar.triton_repository import write_triton_model

POLL_S = 0.2
CALL_S = 5.0
UNLOAD_S = 30.0
OLD_NEWS_S = 3.0
"""So long after a switch, what a sidecar says against a release may still be of an earlier try."""


@dataclass(frozen=True)
class Sidecars:
    """The sidecars that serve a directory of releases, and what they ask of a caller."""

    targets: tuple[str, ...] = ()
    tls: CertificateFiles | None = None
    token_file: str = ""

    def ask(self, target: str) -> pb.GetModelResponse:
        """GetModel of one; raises grpc.RpcError."""
        metadata = []
        if self.token_file:
            metadata.append(authorization(Path(self.token_file).read_text(encoding="ascii")))
        with client_channel(target, self.tls) as channel:
            stub = MotiveStub(channel)  # type: ignore[no-untyped-call]
            answer: pb.GetModelResponse = stub.GetModel(pb.GetModelRequest(), timeout=CALL_S, metadata=metadata)
        return answer


def release(
    path: Path,
    directory: Path,
    *,
    backend: str | None = None,
    dsns: Sequence[str] = (),
    sidecars: Sidecars | None = None,
    wait_s: float = 120.0,
    say: Callable[[str], None] = print,
) -> str:
    """Releases the model repository at `path` into `directory`; returns its model version.

    `backend` is one of sidecar.triton_repository.BACKENDS, which Triton runs it with; None without Triton. Raises
    MotiveError, and the release that served before then serves on.
    """
    repository = _opened(path)
    name = releases.release_name(repository)
    home = directory / releases.RELEASES / name
    fresh = releases.publish(home, lambda draft: _copy(repository, draft))
    releases.open_to_readers(home)
    say(f"{repository.model_version} {'is now' if fresh else 'was already'} in {home}")
    published = _opened(home, verify=not fresh)
    if backend is not None:
        written = write_triton_model(published, directory / releases.TRITON, backend, name)
        releases.open_to_readers(written)
        say(f"for Triton: {written}")
    for dsn in dsns:
        say(f"known to the database {register(published, dsn)}")
    _switch(directory, name, published.model_version, sidecars or Sidecars(), wait_s, say)
    return published.model_version


def roll_back(
    directory: Path, *, sidecars: Sidecars | None = None, wait_s: float = 120.0, say: Callable[[str], None] = print
) -> str:
    """Makes the release before the current one serve again; returns its model version. Twice leads back."""
    name = releases.previous(directory)
    repository = _opened(directory / releases.RELEASES / name)
    _switch(directory, name, repository.model_version, sidecars or Sidecars(), wait_s, say)
    return repository.model_version


def listing(directory: Path) -> list[tuple[str, str]]:
    """Every release in `directory` as (model version, "current", "previous" or "")."""
    links = releases.links(directory)
    marks = {Path(links.previous or "").name: releases.PREVIOUS, Path(links.current or "").name: releases.CURRENT}
    homes = releases.homes(directory)
    return [(_opened(home, verify=False).model_version, marks.get(home.name, "")) for home in homes]


def prune(directory: Path, tritons: Sequence[str] = (), tls: CertificateFiles | None = None) -> list[str]:
    """Removes every release but the current and the previous one; returns their names.

    `tritons` are the addresses (HOST:PORT) of servers that are to give their memory back, reached over `tls`. Raises
    UnavailableError where one does not answer; nothing is removed then.
    """
    links = releases.links(directory)
    kept = {Path(target).name for target in (links.current, links.previous) if target is not None}
    if not kept:
        raise ConfigError(f"{directory} has no current release", "Release a model first.")
    removed = [home for home in releases.homes(directory) if home.name not in kept]
    for address in tritons:
        _unload(address, [home.name for home in removed], tls)
    for home in removed:
        shutil.rmtree(directory / releases.TRITON / home.name, ignore_errors=True)
        try:
            shutil.rmtree(home)
        except OSError as error:
            raise ConfigError(f"{home} cannot be removed: {error.strerror}", "Prune as its owner.") from None
    return [home.name for home in removed]


def _unload(address: str, names: Sequence[str], tls: CertificateFiles | None) -> None:
    from tritonclient.grpc import InferenceServerClient
    from tritonclient.utils import InferenceServerException

    try:
        client = InferenceServerClient(address, creds=client_credentials(tls) if tls else None)
    except OSError as error:
        raise ConfigError(f"{error.filename} cannot be read: {error.strerror}", "Correct the path.") from None
    try:
        index = client.get_model_repository_index(client_timeout=UNLOAD_S)
        loaded = {model.name for model in index.models if model.state == "READY"}
        for name in loaded.intersection(names):
            client.unload_model(name, client_timeout=UNLOAD_S)
    except InferenceServerException as error:
        raise UnavailableError(
            f"Triton at {address} cannot be asked to unload ({error.status()})", "Nothing was removed; is it up?"
        ) from None
    finally:
        client.close()


def register(repository: Repository, dsn: str) -> str:
    """Loads the model and its taxonomy into a database, so that its first answer is understood; returns the name."""
    taxonomy, manifest = repository.taxonomy, repository.manifest
    entries = [_entry(motive, False) for motive in taxonomy.motives] + [_entry(taxonomy.abstention, True)]
    document = {
        "name": manifest.name,
        "version": manifest.version,
        "digest": manifest.digest.hex(),
        "taxonomy_digest": taxonomy.digest.hex(),
        "taxonomy": entries,
    }
    try:
        with psycopg.connect(dsn, connect_timeout=10) as connection:
            connection.execute("select motive.register_model(%s::jsonb)", [json.dumps(document)])
            return connection.info.dbname
    except psycopg.Error as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"the model cannot be made known to a database: {reason}",
            "Give --dsn of the extension's owner; nothing was switched.",
        ) from None


def _entry(motive: Motive, abstention: bool) -> dict[str, object]:
    return {**asdict(motive), "abstention": abstention}


def _opened(path: Path, *, verify: bool = True) -> Repository:
    try:
        return open_repository(path, verify=verify)
    except (RepositoryError, TaxonomyError) as error:
        raise ConfigError(str(error), "Nothing was switched.") from None


def _copy(repository: Repository, draft: Path) -> None:
    """What was checked is what is released: the manifest as it was read, and its files, which are checked again."""
    try:
        copy_files(repository, repository.manifest.files, draft)
    except RepositoryError as error:
        raise ConfigError(str(error), "Nothing was switched.") from None
    repository.manifest.write(draft)
    _opened(draft)


def _switch(
    directory: Path, name: str, version: str, sidecars: Sidecars, wait_s: float, say: Callable[[str], None]
) -> None:
    before = releases.links(directory)
    try:
        releases.activate(directory, name)
        for target in sidecars.targets:
            _wait(sidecars, target, version, wait_s)
            say(f"{target} serves {version}")
    # Whatever it was, an interruption included: what no sidecar has confirmed must not be found by the next to start.
    except BaseException:
        releases.restore(directory, before)
        say("switched back to what was served before")
        raise
    if not sidecars.targets:
        say("switched; each sidecar follows within seconds, or says in motive check why it does not")


def _wait(sidecars: Sidecars, target: str, version: str, wait_s: float) -> None:
    """Returns once the sidecar answers from `version`; raises once it refuses it, or after `wait_s` seconds."""
    started = time.monotonic()
    said = "nothing yet"
    while True:
        try:
            answer = sidecars.ask(target)
        except grpc.RpcError as error:
            said = f"does not answer ({error.code().name})"
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not ASCII"
            raise ConfigError(f"a certificate or the token cannot be read: {reason}", "Correct its path.") from None
        else:
            model = answer.model
            served = f"{model.name}@{model.version}/{model.digest.hex()[:8]}"
            if served == version:
                return
            said = answer.release_error or f"serves {served}"
            if answer.release_refused and time.monotonic() > started + OLD_NEWS_S:
                raise InternalError(f"{target} refuses the release: {said}", "Its log says why.")
        if time.monotonic() > started + wait_s:
            raise UnavailableError(f"{target} has not switched: {said}", "Is Triton up, and its log without errors?")
        time.sleep(POLL_S)
