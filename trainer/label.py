"""`motive-train label`: labels proposed for raw texts by a large model behind any OpenAI-compatible endpoint.

Several votes a text; every vote is written to a journal at once, so that a killed run goes on where it stopped. What
comes out is a proposal: it joins a corpus only once a person accepts it.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sidecar.redact import redact
from sidecar.repository import Taxonomy
from trainer.errors import TrainerError
from trainer.texts import Example


@dataclass(frozen=True)
class Endpoint:
    """Which model to ask, and what it costs."""

    model: str
    url: str | None = None
    """Base URL, such as that of a local vLLM or Ollama; None asks OpenAI itself."""
    key: str | None = None
    """None takes OPENAI_API_KEY from the environment."""
    votes: int = 3
    price_in: float = 0.0
    """Dollars a million tokens read."""
    price_out: float = 0.0
    """Dollars a million tokens written."""
    parallel: int = 4
    timeout: float = 60.0
    """Seconds one request may take."""


@dataclass(frozen=True)
class Proposal:
    """What the votes say of one text."""

    example: Example
    agreement: float
    """Share of the votes whose primary label is the proposed one."""
    votes: int
    tokens_in: int
    tokens_out: int


def instructions(taxonomy: Taxonomy) -> str:
    """The system message: the labels with their definitions, and the form of the answer."""
    lines = "\n".join(f"- {m.code}: {m.name_en}. {m.definition_en}" for m in (*taxonomy.motives, taxonomy.abstention))
    return (
        "You label short texts in any language. For each text name the labels that it states or clearly implies, the "
        "one it most turns on first, at most four. Where none is stated, name only "
        f"{taxonomy.abstention.code}. Judge by the words alone.\n\nLabels:\n{lines}\n\n"
        'Answer with one JSON object and nothing else: {"motives": ["code", ...]}'
    )


def parse_answer(answer: str, taxonomy: Taxonomy) -> tuple[str, ...] | None:
    """The labels in a model's answer, without the abstention code; None where it cannot be read or names others."""
    match = re.search(r"\{.*\}", answer, re.DOTALL)
    try:
        codes = json.loads(match.group())["motives"] if match else None
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(codes, list) or not codes:
        return None
    known = {*taxonomy.codes, taxonomy.abstention.code}
    if any(code not in known for code in codes):
        return None
    motives = tuple(dict.fromkeys(code for code in codes if code != taxonomy.abstention.code))
    return motives if codes[0] != taxonomy.abstention.code else ()


def propose(
    examples: Sequence[Example], taxonomy: Taxonomy, endpoint: Endpoint, journal: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Proposal]:  # fmt: skip
    """Asks for every vote that `journal` lacks and returns the proposals in order; texts without a readable vote drop.

    Personal data is masked before a text leaves. Raises TrainerError where the endpoint refuses or cannot be reached.
    """
    import openai

    try:
        client = openai.OpenAI(base_url=endpoint.url, api_key=endpoint.key, timeout=endpoint.timeout, max_retries=3)
    except openai.OpenAIError as error:
        raise TrainerError(f"no endpoint to ask: {error}; set OPENAI_API_KEY or give --key") from None
    held = read_journal(journal)
    wanted = [(e.text, n) for e in examples for n in range(endpoint.votes) if (e.text, n) not in held]
    journal.parent.mkdir(parents=True, exist_ok=True)
    system = instructions(taxonomy)

    def vote(task: tuple[str, int]) -> dict[str, Any]:
        answer = client.chat.completions.create(
            model=endpoint.model,
            messages=[{"role": "system", "content": system}, {"role": "user", "content": redact(task[0])[0]}],
            temperature=0.0 if endpoint.votes == 1 else 0.7,
            seed=task[1],
        )
        usage = answer.usage
        spent = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
        content = answer.choices[0].message.content or ""
        return {"text": task[0], "vote": task[1], "motives": parse_answer(content, taxonomy), "tokens": spent}

    try:
        with ThreadPoolExecutor(endpoint.parallel) as pool, journal.open("a", encoding="utf-8") as stream:
            for done, row in enumerate(pool.map(vote, wanted), 1):
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
                stream.flush()
                held[row["text"], row["vote"]] = row
                progress(done, len(wanted))
    except openai.OpenAIError as error:
        reason = str(error).strip().splitlines()[0]
        raise TrainerError(f"the endpoint failed ({reason}); mend it and run the same command to go on") from None
    return [p for e in examples if (p := tally(e, [held.get((e.text, n)) for n in range(endpoint.votes)]))]


def read_journal(path: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """The votes already given; a last line cut off by a kill is left out."""
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8").split("\n"):
            try:
                row = json.loads(line)
            except ValueError:
                continue
            rows[row["text"], row["vote"]] = row
    return rows


def tally(example: Example, rows: Sequence[dict[str, Any] | None]) -> Proposal | None:
    """The labels that at least half of the readable votes name, the commonest primary first; None without a vote."""
    votes = [tuple(row["motives"]) for row in rows if row and row["motives"] is not None]
    if not votes:
        return None
    primary, agreed = Counter(v[0] if v else "" for v in votes).most_common(1)[0]
    counts = Counter(code for v in votes for code in v)
    rest = [code for code, n in counts.most_common() if 2 * n >= len(votes) and code != primary]
    motives = (primary, *rest) if primary else ()
    spent = [row["tokens"] for row in rows if row]
    labelled = replace(example, motives=motives, source=example.source or "proposed")
    return Proposal(labelled, agreed / len(votes), len(votes), sum(t[0] for t in spent), sum(t[1] for t in spent))


def cost(proposals: Sequence[Proposal], endpoint: Endpoint) -> float:
    """Dollars that the votes cost, by the endpoint's prices."""
    read, written = sum(p.tokens_in for p in proposals), sum(p.tokens_out for p in proposals)
    return (read * endpoint.price_in + written * endpoint.price_out) / 1e6


def summary(proposals: Sequence[Proposal], endpoint: Endpoint) -> str:
    """How many, how much they agree and what they cost, for a person."""
    if not proposals:
        return "No text got a readable vote."
    whole = sum(p.agreement == 1.0 for p in proposals) / len(proposals)
    mean = sum(p.agreement for p in proposals) / len(proposals)
    return (
        f"{len(proposals)} proposals; all votes agree on {whole:.0%}, mean agreement {mean:.2f}; "
        f"cost ${cost(proposals, endpoint):.2f}."
    )
