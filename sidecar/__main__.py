"""`python -m sidecar` is the `motive` command."""

from sidecar.cli import main

raise SystemExit(main())
