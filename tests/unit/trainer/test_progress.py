"""Progress goes to standard error: a bar at a terminal, plain lines elsewhere."""

import io

import pytest
from rich.console import Console

from trainer.progress import bar, stage


def test_a_bar_ends_full_and_leaves_standard_output_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with bar("votes") as advance:
        advance(1, 3)
        advance(3, 3)
    said = capsys.readouterr()
    assert said.out == ""
    assert "votes" in said.err
    assert "3/3" in said.err


def test_a_stage_is_one_line_where_nobody_watches() -> None:
    stream = io.StringIO()
    with stage("judging", Console(file=stream)):
        pass
    assert stream.getvalue() == "judging ...\n"


def test_an_error_ends_the_bar_and_goes_on() -> None:
    stream = io.StringIO()

    def fail() -> None:
        with bar("votes", Console(file=stream)) as advance:
            advance(1, 3)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert stream.getvalue().endswith("\n")
