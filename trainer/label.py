"""`motive-train label`: labels proposed for raw texts by a large model behind any OpenAI-compatible endpoint.

Several votes a text; every vote is written to a journal at once, so that a killed run goes on where it stopped. A vote
counts for the model and the instructions, taxonomy included, that it was given for. What comes out is a proposal: it
joins a corpus only once a person accepts it.
"""

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from sidecar.redact import redact
from sidecar.repository import Taxonomy
from trainer.errors import TrainerError
from trainer.texts import MISSING, Example, to_line, to_row, write_rows

Vote = dict[str, Any]
"""A line of the journal: text, vote (its number, 0 up), asked (see `asked`), motives (null if unreadable), tokens."""


@dataclass(frozen=True)
class Endpoint:
    """Which model to ask, and what it costs."""

    model: str
    url: str | None = None
    """Base URL, such as that of a local vLLM or Ollama; None asks OpenAI itself."""
    key: str | None = None
    """None takes OPENAI_API_KEY from the environment."""
    votes: int = 3
    temperature: float | None = 0.7
    """None leaves the choice to the endpoint; some refuse any."""
    seed: bool = True
    """Whether each vote is asked for with its number as the seed; some endpoints refuse one."""
    price_in: float = 0.0
    """Dollars a million tokens read."""
    price_out: float = 0.0
    """Dollars a million tokens written."""
    parallel: int = 4
    timeout: float = 60.0
    """Seconds one request may take."""


@dataclass(frozen=True)
class Proposal:
    """What the votes say of one text, which stays unlabelled where none can be read."""

    example: Example
    agreement: float
    """Share of the votes asked for whose primary label is the proposed one; an unreadable vote agrees with none."""
    votes: tuple[tuple[str, ...], ...]
    """What each vote that can be read says, codes, none for abstention."""
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
    """The labels in the last JSON object of an answer that has `motives`; without the abstention code.

    Models think aloud first, and remark on it afterwards. None where it cannot be read or names others.
    """
    codes = _last_motives(answer)
    if not isinstance(codes, list) or not codes:
        return None
    known = {*taxonomy.codes, taxonomy.abstention.code}
    if any(not isinstance(code, str) or code not in known for code in codes):
        return None
    motives = tuple(dict.fromkeys(code for code in codes if code != taxonomy.abstention.code))
    return motives if codes[0] != taxonomy.abstention.code else ()


def _last_motives(answer: str) -> Any:
    """What `motives` is in the last JSON object that has it and is not within another; None where none has."""
    decoder, last, at = json.JSONDecoder(), None, answer.find("{")
    while at >= 0:
        try:
            found, end = decoder.raw_decode(answer, at)
            last = found.get("motives", last)
        except (ValueError, RecursionError):
            end = at + 1
        at = answer.find("{", end)
    return last


def read_completion(body: str) -> tuple[str, tuple[int, int]]:
    """What a chat completion says, and the tokens read and written; raises TrainerError where `body` is none.

    Some endpoints answer errors with status 200: no vote is to be counted for these.
    """
    try:
        answer = json.loads(body)
        content = answer["choices"][0]["message"].get("content") or ""
        if not isinstance(content, str):  # parts, of which those of a thinking model are not all text
            content = "".join(part.get("text") or "" for part in content)
        usage = answer.get("usage") or {}
        return content, (int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0))
    except (ValueError, LookupError, TypeError, AttributeError):
        said = " ".join(body.split())[:200]
        raise TrainerError(
            f"the endpoint gives no chat completion but {said!r}; mend it, or --url, which often ends in /v1, and run "
            "the same command to go on"
        ) from None


def propose(
    examples: Sequence[Example], taxonomy: Taxonomy, endpoint: Endpoint, journal: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Proposal]:  # fmt: skip
    """Asks for every vote that `journal` lacks; one proposal for each text, in order, those of equal texts joined.

    Personal data is masked before a text leaves. What fails for a while (429, 5xx, a lost connection) is asked again
    three times, after the pause that the endpoint names. Raises TrainerError where the endpoint refuses, cannot be
    reached or gives no completion.
    """
    import openai

    try:
        client = openai.OpenAI(base_url=endpoint.url, api_key=endpoint.key, timeout=endpoint.timeout, max_retries=3)
    except openai.OpenAIError as error:
        raise TrainerError(f"no endpoint to ask: {error}; set OPENAI_API_KEY or give --key") from None
    system = instructions(taxonomy)
    of = asked(endpoint, system)
    held = read_journal(journal, of)
    texts: dict[str, Example] = {}
    for example in examples:
        texts.setdefault(example.text, example)
    wanted = [(text, n) for text in texts for n in range(endpoint.votes) if (text, n) not in held]
    options: dict[str, Any] = {} if endpoint.temperature is None else {"temperature": endpoint.temperature}
    lock = threading.Lock()

    def vote(text: str, number: int) -> None:
        response = client.chat.completions.with_raw_response.create(
            model=endpoint.model,
            messages=[{"role": "system", "content": system}, {"role": "user", "content": redact(text)[0]}],
            **({**options, "seed": number} if endpoint.seed else options),
        )
        said, spent = read_completion(response.http_response.text)
        row = {"text": text, "vote": number, "asked": of, "motives": parse_answer(said, taxonomy), "tokens": spent}
        with lock:  # here, not where votes are awaited: what is paid for is kept, whatever else is under way
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
            stream.flush()
            held[text, number] = row

    pool = ThreadPoolExecutor(endpoint.parallel)
    with appended(journal) as stream:
        try:
            for done, future in enumerate(as_completed([pool.submit(vote, *task) for task in wanted]), 1):
                future.result()
                progress(done, len(wanted))
        except openai.OpenAIError as error:
            reason = str(error).strip().splitlines()[0]
            raise TrainerError(f"the endpoint failed ({reason}); mend it and run the same command to go on") from None
        finally:
            pool.shutdown(cancel_futures=True)
    return [tally(e, [held.get((e.text, n)) for n in range(endpoint.votes)]) for e in texts.values()]


def asked(endpoint: Endpoint, system: str) -> str:
    """What a vote depends on beside the text: 16 hexadecimal digits over model, temperature and instructions."""
    facts = json.dumps([endpoint.model, endpoint.temperature, system])
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


def read_journal(path: Path, of: str) -> dict[tuple[str, int], Vote]:
    """The votes already given under `of`; a line cut off by a kill is left out."""
    rows: dict[tuple[str, int], Vote] = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                row = json.loads(line)
                if row["asked"] == of:
                    rows[row["text"], row["vote"]] = row
            except (ValueError, KeyError, TypeError):
                continue
    return rows


@contextmanager
def appended(path: Path) -> Iterator[TextIO]:
    """The journal, opened to add lines; one that a kill has cut off is ended first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cut_off = path.is_file() and not path.read_bytes().endswith(b"\n")
    with path.open("a", encoding="utf-8") as stream:
        if cut_off:
            stream.write("\n")
        yield stream


def tally(example: Example, rows: Sequence[Vote | None]) -> Proposal:
    """The labels that at least half of the readable votes name, the commonest primary first."""
    votes = [tuple(row["motives"]) for row in rows if row and row["motives"] is not None]
    spent = [row["tokens"] for row in rows if row]
    tokens = (sum(t[0] for t in spent), sum(t[1] for t in spent))
    if not votes:
        return Proposal(replace(example, motives=(), unlabelled=MISSING), 0.0, (), *tokens)
    primary, agreed = Counter(v[0] if v else "" for v in votes).most_common(1)[0]
    counts = Counter(code for v in votes for code in v)
    rest = [code for code, n in counts.most_common() if 2 * n >= len(votes) and code != primary]
    motives = (primary, *rest) if primary else ()
    labelled = replace(example, motives=motives, source=example.source or "proposed", unlabelled="")
    return Proposal(labelled, agreed / len(rows), tuple(votes), *tokens)


def check_review(path: Path, proposals: Sequence[Proposal]) -> None:
    """Raises TrainerError where `path` holds a row that `write_review` does not write of `proposals`."""
    if not path.is_file():
        return
    known = {to_line(_to_review(proposal)) for proposal in proposals}
    held = path.read_text(encoding="utf-8", errors="replace").split("\n")
    if not known.issuperset(line for line in held if line):
        raise TrainerError(
            f"{path} holds rows other than those proposed now, which a person may have mended; give it another name, "
            "and run the same command: the votes are kept"
        )


def write_review(path: Path, proposals: Sequence[Proposal]) -> None:
    """Writes JSON Lines for a person to mend, least agreed first."""
    write_rows(path, map(_to_review, sorted(proposals, key=lambda p: p.agreement)))


def _to_review(proposal: Proposal) -> dict[str, object]:
    """A text as in a corpus, null for its motives where no vote can be read, with agreement and votes."""
    return {**to_row(proposal.example), "agreement": round(proposal.agreement, 2), "votes": proposal.votes}


def spending(proposals: Sequence[Proposal], endpoint: Endpoint) -> str:
    """The tokens that the votes took, and the dollars that these cost by the endpoint's prices."""
    read, written = sum(p.tokens_in for p in proposals), sum(p.tokens_out for p in proposals)
    tokens = f"{read:,} tokens read and {written:,} written"
    if not (endpoint.price_in or endpoint.price_out):
        return f"{tokens}, whose cost --price-in and --price-out tell"
    return f"{tokens}, cost ${(read * endpoint.price_in + written * endpoint.price_out) / 1e6:.2f}"


def summary(proposals: Sequence[Proposal], endpoint: Endpoint) -> str:
    """How many, how much they agree and what they cost, for a person."""
    readable = [p for p in proposals if p.votes]
    spent = f"{spending(proposals, endpoint)}."
    if not readable:
        return f"No text got a readable vote; {spent}"
    whole = sum(p.agreement == 1.0 for p in readable) / len(readable)
    mean = sum(p.agreement for p in readable) / len(readable)
    lost = f"{len(proposals) - len(readable)} texts got no readable vote; " if len(readable) < len(proposals) else ""
    return f"{len(readable)} proposals; {lost}all votes agree on {whole:.0%}, mean agreement {mean:.2f}; {spent}"
