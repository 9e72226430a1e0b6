"""The extension's files as PostgreSQL reads them: the control file and one script, built from its numbered parts."""

from pathlib import Path

from sidecar import __version__

CONTROL = "pg_motive.control"
SCRIPT = f"pg_motive--{__version__}.sql"


def sources() -> Path:
    """The directory of the SQL sources: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "extension_files"
    return installed if installed.is_dir() else package.parent / "sql"


def control_file() -> str:
    """The text of pg_motive.control."""
    return (sources() / CONTROL).read_text(encoding="utf-8")


def script() -> str:
    """The installation script: every part, in the order of their numbers. sql/Makefile builds the same."""
    return "".join(part.read_text(encoding="utf-8") for part in sorted((sources() / "pg_motive").glob("*.sql")))


def upgrade_scripts() -> dict[str, str]:
    """The scripts from version to version, by file name."""
    found = sorted((sources() / "upgrade").glob("pg_motive--*--*.sql"))
    return {path.name: path.read_text(encoding="utf-8") for path in found}
