"""pgspot on the built installation script and on every upgrade script: `python -m tests.verify.lint_sql`."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from sidecar.extension_script import SCRIPT, script, upgrade_scripts

# Runs a query of its caller, with the caller's rights and search path: setting another path would change the query.
CALLERS_PATH = "motive.classify_rows(query text,key text,motive text,confidence real)"


def main() -> int:
    """Prints what pgspot finds; returns 1 where it finds anything."""
    program = shutil.which("pgspot", path=str(Path(sys.executable).parent)) or "pgspot"
    command = [program, "--proc-without-search-path", CALLERS_PATH, "--ignore-lang", "plpython3u"]
    failed = False
    with tempfile.TemporaryDirectory() as directory:
        for name, text in {SCRIPT: script(), **upgrade_scripts()}.items():
            path = Path(directory) / name
            path.write_text(text, encoding="utf-8")
            done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)
            clean = done.returncode == 0 and "Errors: 0 Warnings: 0 Unknown: 0" in done.stdout and not done.stderr
            failed = failed or not clean
            if not clean:
                print(f"{name}:\n{done.stdout}{done.stderr}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
