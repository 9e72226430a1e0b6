"""What a worker writes to its log, as operators collect it."""

import json

from tests.fixtures.annotation import Annotation

GIFT = "a gift for my mother"


def test_a_workers_log_is_json_where_that_is_asked_for(annotation: Annotation) -> None:
    annotation.table()
    annotation.execute("insert into texts (body) values (%s)", GIFT)
    with annotation.process("--log-format", "json", "--once") as worker:
        worker.process.wait(60)
    lines = [json.loads(line) for line in worker.log.splitlines()]
    assert any("stopped after 1 row" in line["message"] for line in lines)
    assert all({"time", "level", "logger"} <= line.keys() for line in lines)
    assert GIFT not in worker.log
