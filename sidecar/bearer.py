"""A token file, tokens one a line, as both sides read it: a sidecar takes each of them, a caller sends the first.

One file can so serve both while a token is exchanged. Standard library only: loaded into PostgreSQL's backends, too.
"""


def tokens(text: str) -> list[str]:
    """The lines of a token file that are not blank."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def authorization(text: str) -> tuple[str, str]:
    """The entry of a call's metadata by a caller whose token file holds this text."""
    return ("authorization", f"Bearer {next(iter(tokens(text)), '')}")
