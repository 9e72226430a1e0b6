"""Labels proposed through an OpenAI-compatible endpoint, against a server of our own."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sidecar.repository import Taxonomy
from tests.fixtures.waiting import wait_until
from tests.unit.trainer.conftest import run
from trainer.errors import TrainerError
from trainer.label import Endpoint, asked, instructions, parse_answer, propose, read_journal, spending, summary
from trainer.texts import Example, read_examples


class Server:
    """Answers every chat request with what `reply` says of its text and seed; remembers the requests."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.status = 200
        self.scripted: list[tuple[int, str]] = []
        """Status and body of the next answers, in place of what `reply` would say."""
        self.unheld = threading.Event()
        """Until it is set, texts that say "slow" get no answer."""
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.requests.append(asked)
                text, seed = asked["messages"][1]["content"], asked.get("seed", 0)
                message = {"role": "assistant", "content": server.reply(text, seed)}
                answer = {
                    "id": "1", "object": "chat.completion", "created": 0, "model": "m",
                    "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                    "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
                }  # fmt: skip
                body = json.dumps(answer if server.status == 200 else {"error": {"message": "no credit"}})
                status, body = server.scripted.pop(0) if server.scripted else (server.status, body)
                data = body.encode()
                self.send_response(status)
                self.send_header("Retry-After-Ms", "1")
                self.send_header("Content-Type", "text/html" if body.startswith("<") else "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()

    def reply(self, text: str, seed: int) -> str:
        if "slow" in text:
            assert self.unheld.wait(30)
        if "odd" in text:
            return ['[{"code": "refund"}]', '{"motives": [["refund"]]}', '{"motives": ["refund"]}'][seed]
        if "money" in text:
            return 'Sure: {"motives": ["refund", "defect"]}' if seed else '{"motives": ["refund"]}'
        if "mixed" in text:
            return json.dumps({"motives": [["refund", "defect", "delivery"][seed]]})
        return '{"motives": ["other"]}' if "hello" in text else "I cannot say"

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


TEXTS = [Example("money back"), Example("hello"), Example("mixed"), Example("???")]


def endpoint(server: Server) -> Endpoint:
    return Endpoint("m", server.url, "key", votes=3, price_in=2.0, price_out=10.0, parallel=1)


def proposing(server: Server, raw: Path) -> tuple[object, ...]:
    """The command that has the texts of `raw` labelled into new.jsonl beside them, by the taxonomy there."""
    return (
        "label", raw, "--to", raw.with_name("new.jsonl"), "--model", "m", "--url", server.url, "--key", "k",
        "--taxonomy", raw.with_name("taxonomy.toml"),
    )  # fmt: skip


def test_votes_are_counted_and_the_unreadable_propose_nothing(
    server: Server, taxonomy: Taxonomy, tmp_path: Path
) -> None:
    found = propose(TEXTS, taxonomy, endpoint(server), tmp_path / "votes.jsonl")
    assert [(p.example.text, p.example.motives) for p in found[:2]] == [
        ("money back", ("refund", "defect")),
        ("hello", ()),
    ]
    assert [round(p.agreement, 2) for p in found] == [1.0, 1.0, 0.33, 0.0]
    assert [len(p.votes) for p in found] == [3, 3, 3, 0]
    paid = f"12,000 tokens read and 1,200 written, cost ${12 * (1000 * 2 + 100 * 10) / 1e6:.2f}"
    assert spending(found, endpoint(server)) == paid, "all votes were paid for"
    assert "3 proposals; 1 texts got no readable vote" in summary(found, endpoint(server))


def test_without_prices_the_tokens_are_told_and_no_cost(server: Server, taxonomy: Taxonomy, tmp_path: Path) -> None:
    free = replace(endpoint(server), price_in=0.0, price_out=0.0)
    said = summary(propose(TEXTS[:1], taxonomy, free, tmp_path / "votes.jsonl"), free)
    assert said.endswith("; 3,000 tokens read and 300 written, whose cost --price-in and --price-out tell.")


def test_a_vote_that_cannot_be_read_agrees_with_none(server: Server, taxonomy: Taxonomy, tmp_path: Path) -> None:
    (found,) = propose([Example("odd")], taxonomy, endpoint(server), tmp_path / "votes.jsonl")
    assert (found.example.motives, found.votes, round(found.agreement, 2)) == (("refund",), (("refund",),), 0.33)


def test_equal_texts_are_asked_for_once(server: Server, taxonomy: Taxonomy, tmp_path: Path) -> None:
    found = propose([*TEXTS[:2], *TEXTS[:2]], taxonomy, endpoint(server), tmp_path / "votes.jsonl")
    assert [p.example.text for p in found] == ["money back", "hello"]
    assert len(server.requests) == 6


def test_votes_count_for_the_model_and_labels_they_were_given_for(
    server: Server, taxonomy: Taxonomy, tmp_path: Path
) -> None:
    def requests(one: Endpoint, labels: Taxonomy) -> int:
        before = len(server.requests)
        propose(TEXTS[:1], labels, one, tmp_path / "votes.jsonl")
        return len(server.requests) - before

    other = replace(taxonomy, motives=(replace(taxonomy.motives[0], definition_en="Anew."), *taxonomy.motives[1:]))
    first = endpoint(server)
    assert [requests(first, taxonomy), requests(replace(first, model="n"), taxonomy), requests(first, other)] == [3] * 3
    assert [requests(first, taxonomy), requests(first, other)] == [0, 0]


def test_votes_are_kept_while_a_slower_one_is_under_way(server: Server, taxonomy: Taxonomy, tmp_path: Path) -> None:
    journal = tmp_path / "votes.jsonl"
    one = replace(endpoint(server), votes=1, parallel=2)
    key = asked(one, instructions(taxonomy))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(propose, [Example("slow"), *TEXTS], taxonomy, one, journal)
        try:
            wait_until(lambda: len(read_journal(journal, key)), lambda n: n == 4, 30, "the four other votes")
        finally:
            server.unheld.set()
        assert len(running.result(30)) == 5


def test_temperature_and_seed_may_be_left_out(server: Server, taxonomy: Taxonomy, tmp_path: Path) -> None:
    (tmp_path / "raw.jsonl").write_text('{"text": "money back", "label": 1}\n')
    command = (*proposing(server, tmp_path / "raw.jsonl"), "--votes", 1)
    assert run(*command) == 0
    assert (server.requests[-1]["temperature"], server.requests[-1]["seed"]) == (0.0, 0)
    assert run(*command, "--temperature", "none", "--no-seed") == 0
    assert not {"temperature", "seed"} & set(server.requests[-1])


def test_the_definitions_are_sent_and_personal_data_is_not(server: Server, taxonomy: Taxonomy, tmp_path: Path) -> None:
    propose([Example("money to someone@example.com")], taxonomy, endpoint(server), tmp_path / "votes.jsonl")
    sent = json.dumps(server.requests)
    assert "The customer wants money back." in sent
    assert "example.com" not in sent


def test_a_killed_run_goes_on_where_it_stopped(server: Server, taxonomy: Taxonomy, tmp_path: Path) -> None:
    journal = tmp_path / "votes.jsonl"
    propose(TEXTS[:2], taxonomy, endpoint(server), journal)
    journal.write_text(journal.read_text()[:-20])  # the last line was cut off
    server.requests.clear()
    found = propose(TEXTS, taxonomy, endpoint(server), journal)
    assert len(server.requests) == 7
    assert len(found) == 4
    propose(TEXTS, taxonomy, endpoint(server), journal)
    assert len(server.requests) == 7, "a vote was lost in the line that was cut off"


def test_nothing_is_accepted_without_being_told(
    server: Server, taxonomy: Taxonomy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "raw.csv").write_text("body\nmoney back\nmixed\n", encoding="utf-8")
    command = (*proposing(server, tmp_path / "raw.csv"), "--price-in", 1, "--parallel", 1)
    assert run(*command) == 0
    said = capsys.readouterr()
    assert "all votes agree on 50%" in said.out
    assert "$0.01" in said.out
    assert "6/6" in said.err
    assert not (tmp_path / "new.jsonl").exists()
    assert len(read_examples(tmp_path / "new.review.jsonl")) == 2
    before = len(server.requests)
    assert run(*command, "--accept") == 0
    assert len(server.requests) == before, "votes already given were asked for again"
    (taken,) = read_examples(tmp_path / "new.jsonl")
    assert (taken.text, taken.motives, taken.source) == ("money back", ("refund", "defect"), "proposed")


def test_what_is_not_accepted_is_to_be_reviewed_least_agreed_first_with_its_votes(
    server: Server, tmp_path: Path, taxonomy: Taxonomy
) -> None:
    (tmp_path / "raw.csv").write_text("body\nmixed\nmoney back\n???\n", encoding="utf-8")
    command = (*proposing(server, tmp_path / "raw.csv"), "--parallel", 1)

    def review() -> list[dict[str, Any]]:
        return [json.loads(line) for line in (tmp_path / "new.review.jsonl").read_text().splitlines()]

    assert run(*command) == 0
    assert [row["text"] for row in review()] == ["???", "mixed", "money back"]
    assert run(*command, "--accept") == 0
    assert [e.text for e in read_examples(tmp_path / "new.jsonl")] == ["money back"]
    assert review() == [
        {"text": "???", "motives": None, "agreement": 0.0, "votes": []},
        {
            "text": "mixed", "motives": ["refund"], "source": "proposed", "agreement": 0.33,
            "votes": [["refund"], ["defect"], ["delivery"]],
        },
    ]  # fmt: skip


def test_a_review_that_a_person_has_mended_is_not_written_over(
    server: Server, tmp_path: Path, taxonomy: Taxonomy, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "raw.csv").write_text("body\nmixed\nmoney back\n", encoding="utf-8")
    command = (*proposing(server, tmp_path / "raw.csv"), "--parallel", 1)
    assert run(*command) == run(*command) == 0
    review = tmp_path / "new.review.jsonl"
    mended = review.read_text().replace('"motives": ["refund"]', '"motives": ["delivery"]')
    review.write_text(mended)
    assert run(*command, "--accept") == 1
    assert "new.review.jsonl holds rows other than those proposed now" in capsys.readouterr().err
    assert review.read_text() == mended
    assert not (tmp_path / "new.jsonl").exists()
    review.rename(tmp_path / "mended.jsonl")
    assert run(*command, "--accept") == 0


def test_an_endpoint_that_refuses_is_named_in_one_sentence(server: Server, taxonomy: Taxonomy, tmp_path: Path) -> None:
    server.status = 401
    with pytest.raises(TrainerError, match="no credit"):
        propose(TEXTS, taxonomy, endpoint(server), tmp_path / "votes.jsonl")


def completion(message: object) -> str:
    """The body of a chat completion."""
    return json.dumps({"choices": [{"index": 0, "message": message}]})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("<html>Log in</html>", "Log in"),
        ("{not json", "{not json"),
        ("", "''"),
        ('{"error": {"message": "provider overloaded"}}', "provider overloaded"),
        ('{"choices": []}', "choices"),
        ('{"choices": null}', "choices"),
        ('{"choices": [{"index": 0}]}', "choices"),
        (completion(None), "choices"),
        (completion({"content": 3}), "choices"),
    ],
)
def test_an_answer_that_is_no_completion_ends_the_run_and_is_no_vote(
    server: Server, taxonomy: Taxonomy, tmp_path: Path, body: str, said: str
) -> None:
    server.scripted = [(200, body)]
    one = replace(endpoint(server), votes=1)
    with pytest.raises(TrainerError, match=f"gives no chat completion but .*{said}.*--url"):
        propose(TEXTS[:1], taxonomy, one, tmp_path / "votes.jsonl")
    (found,) = propose(TEXTS[:1], taxonomy, one, tmp_path / "votes.jsonl")
    assert found.example.motives == ("refund",)


def test_a_message_in_parts_is_joined_and_one_without_content_is_a_vote_that_cannot_be_read(
    server: Server, taxonomy: Taxonomy, tmp_path: Path
) -> None:
    parts = [{"type": "thinking", "thinking": []}, {"type": "text", "text": '{"motives": '}, {"text": '["defect"]}'}]
    server.scripted = [(200, completion({"content": parts})), (200, completion({"content": None}))]
    found = propose(TEXTS[:2], taxonomy, replace(endpoint(server), votes=1), tmp_path / "votes.jsonl")
    assert [p.votes for p in found] == [(("defect",),), ()]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_endpoint_that_fails_for_a_while_is_asked_again_and_at_last_given_up(
    server: Server, taxonomy: Taxonomy, tmp_path: Path, status: int
) -> None:
    failure = (status, '{"error": {"message": "slow down"}}')
    one = replace(endpoint(server), votes=1)
    server.scripted = [failure] * 2
    (found,) = propose(TEXTS[:1], taxonomy, one, tmp_path / "votes.jsonl")
    assert found.example.motives == ("refund",)
    server.scripted = [failure] * 4
    with pytest.raises(TrainerError, match=r"the endpoint failed .*slow down.*run the same command to go on"):
        propose(TEXTS[1:2], taxonomy, one, tmp_path / "votes.jsonl")
    assert len(server.requests) == 3 + 4


@pytest.mark.parametrize(
    ("answer", "labels"),
    [
        ('{"motives": ["refund"]}', ("refund",)),
        ('```json\n{"motives": ["defect", "other", "defect"]}\n```', ("defect",)),
        ('{"motives": ["other"]}', ()),
        ('{"motives": ["pizza"]}', None),
        ('{"motives": []}', None),
        ("none", None),
        ('{"motives": 3}', None),
        ('{"motives": [{"code": "refund"}]}', None),
        ('[{"code": "refund"}]', None),
        ('<think>{"motives": ["defect"]} or so {</think>{"motives": ["refund"]}', ("refund",)),
        ('{"motives": ["refund"]} (I am sure :-})', ("refund",)),
        ('{"motives": ["refund"]} {"confidence": 0.9}', ("refund",)),
        ('{"a":' * 2_000, None),
    ],
)
def test_answers_are_read_strictly(answer: str, labels: tuple[str, ...] | None, taxonomy: Taxonomy) -> None:
    assert parse_answer(answer, taxonomy) == labels
