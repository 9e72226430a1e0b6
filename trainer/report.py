"""One self-contained HTML page: headings, tables and pictures, nothing fetched from elsewhere."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Section:
    """A part of a report."""

    title: str
    body: str
    """HTML; texts in it must be escaped already."""
    picture: bytes | None = None
    """PNG."""


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: .5rem 0 }
th, td { padding: .2rem .7rem; border-bottom: 1px solid #ddd; text-align: right }
th:first-child, td:first-child { text-align: left }
img { max-width: 100% }
"""


def html_report(title: str, sections: Sequence[Section]) -> str:
    """The whole page."""
    parts = [f"<h2>{escape(s.title)}</h2>\n{s.body}{_picture(s)}" for s in sections]
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head>\n<body><h1>{escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def _picture(section: Section) -> str:
    if section.picture is None:
        return ""
    data = base64.b64encode(section.picture).decode()
    return f'<p><img alt="{escape(section.title)}" src="data:image/png;base64,{data}"></p>'


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """An HTML table; every cell is escaped."""
    top = "".join(f"<th>{escape(h)}</th>" for h in heads)
    lines = "".join("<tr>" + "".join(f"<td>{escape(str(c))}</td>" for c in row) + "</tr>\n" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead>\n<tbody>\n{lines}</tbody></table>\n"
