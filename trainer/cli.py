"""The `motive-train` command: its flags, and every error as one sentence."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sidecar.repository import TaxonomyError
from trainer import commands
from trainer.commands import BUILD, CONFIG, SHIPPED
from trainer.errors import TrainerError

Parsers = Any
HERE = Path(__file__).parent
TEACHER = HERE / "teacher.toml"
TAXONOMY = HERE / "taxonomy.toml"


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(prog="motive-train", description="Train, judge and export models that name motives.")
    top.add_argument("--trace", action="store_true", help="show where an unexpected error comes from")
    added: Parsers = top.add_subparsers(required=True, metavar="COMMAND")
    for add in (_texts, _training, _judging, _models):
        add(added)
    return top


def _command(added: Parsers, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = added.add_parser(name, help=text, description=text)
    command.set_defaults(run=run, command=name)
    return command


def _columns(command: argparse.ArgumentParser) -> None:
    command.add_argument("--text-column", default="", help="the field of the texts, where it is not called text")
    command.add_argument(
        "--label-column",
        default="",
        help="the field of the labels, where it is not called motives; which of several controls or questions",
    )


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share, from 0 to 1")
    return share


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text} should be 1 or more")
    return count


def _temperature(text: str) -> float | str:
    return text if text in ("default", "none") else float(text)


def _texts(added: Parsers) -> None:
    p = _command(
        added, "prepare", commands.prepare, "clean and check labelled texts, drop near-duplicates, split, report"
    )
    p.add_argument("files", nargs="*", type=Path, help="JSON Lines, CSV, Parquet, Label Studio or Argilla exports")
    p.add_argument("--dsn", help="also read corrections from this database")
    p.add_argument("--query", help="instead of the corrections: any query with the columns text and motives")
    p.add_argument(
        "--to", type=Path, required=True, help="folder for corpus.jsonl, its part parts/test.jsonl, and a report"
    )
    p.add_argument("--taxonomy", type=Path, default=TAXONOMY)
    _columns(p)
    as_in = "by default %(default)s, as in a config that says nothing else"
    p.add_argument("--calibration-share", type=_share, default=0.1, help=as_in)
    p.add_argument("--test-share", type=_share, default=0.1, help=as_in)
    p.add_argument("--seed", type=int, default=17, help=as_in)
    p.add_argument("--resemblance", type=_share, default=0.8, help="share of common shingles that makes a duplicate")

    p = _command(added, "label", commands.label, "propose labels for raw texts through an OpenAI-compatible endpoint")
    p.add_argument("file", type=Path, help="texts, labelled or not")
    p.add_argument("--to", type=Path, required=True, help="JSON Lines of the labelled texts")
    p.add_argument("--model", required=True)
    p.add_argument("--url", help="base URL of the endpoint, such as a local vLLM or Ollama")
    p.add_argument("--key", help="OPENAI_API_KEY by default")
    p.add_argument("--votes", type=_count, default=3)
    p.add_argument(
        "--temperature",
        type=_temperature,
        default="default",
        help="0.7, or 0 for one vote, by default; none leaves it to endpoints that refuse any",
    )
    p.add_argument("--no-seed", action="store_true", help="for endpoints that refuse a seed")
    p.add_argument("--agreement", type=_share, default=1.0, help="share of votes that --accept asks for")
    p.add_argument("--accept", action="store_true", help="take agreed proposals without a person's review")
    p.add_argument("--price-in", type=float, default=0.0, help="dollars a million tokens read")
    p.add_argument("--price-out", type=float, default=0.0, help="dollars a million tokens written")
    p.add_argument("--parallel", type=_count, default=4)
    p.add_argument("--timeout", type=float, default=60.0, help="seconds a request may take")
    p.add_argument("--taxonomy", type=Path, default=TAXONOMY)
    p.add_argument("--text-column", default="")

    p = _command(added, "card", commands.card, "write the data card of a corpus: counts, labels, variety, agreement")
    p.add_argument("files", nargs="*", type=Path, help="JSON Lines, instead of a folder; they need --to")
    p.add_argument(
        "--corpus", type=Path, default=HERE / "corpus", help="folder of FOREWORD.md, *.jsonl and review/*.jsonl"
    )
    p.add_argument("--taxonomy", type=Path, default=TAXONOMY)
    p.add_argument("--to", type=Path, help="the card; README.md of the folder by default")


def _training(added: Parsers) -> None:
    shipped = f"folder of the model; by default {SHIPPED}, with the project's own config alone"
    for name, run, text, place in (
        ("train", commands.train, "fine-tune a pre-trained backbone on a corpus", {"default": BUILD}),
        ("release", commands.release, "train, calibrate and export in one go", {"help": shipped}),
    ):
        p = _command(added, name, run, text)
        p.add_argument("--config", type=Path, default=CONFIG)
        p.add_argument("--to", type=Path, **place)
        p.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
        p.add_argument("--offline", action="store_true", help="ask no model hub")

    p = _command(
        added, "calibrate", commands.calibrate, "show what export fits on held-out texts, and which method does better"
    )
    p.add_argument("--config", type=Path, default=CONFIG)
    p.add_argument("--model", type=Path, default=BUILD)

    p = _command(
        added, "distill", commands.distill, "write what trained teachers say of the corpus, for a smaller student"
    )
    p.add_argument("teachers", nargs="*", type=Path, help="folders that train wrote; or --folds")
    p.add_argument("--config", type=Path, default=CONFIG, help="the student's config: its training texts get votes")
    p.add_argument("--to", type=Path, required=True)
    p.add_argument("--temperature", type=float, default=1.0)
    p.add_argument(
        "--folds", type=int, default=0, help="train teachers that each leave out a fold, and vote on what they left out"
    )
    p.add_argument("--seeds", type=int, default=1, help="teachers a fold")
    p.add_argument(
        "--teacher-config", type=Path, default=TEACHER, help="[network] and [optimisation] of the teachers of --folds"
    )
    p.add_argument("--offline", action="store_true", help="ask no model hub")


def _judging(added: Parsers) -> None:
    p = _command(
        added, "evaluate", commands.evaluate, "judge an exported model on labelled texts; writes an HTML report"
    )
    p.add_argument("model", type=Path, help="model repository")
    p.add_argument("file", type=Path, help="labelled texts")
    _columns(p)
    p.add_argument("--to", type=Path, default=Path("build/evaluation"))
    p.add_argument(
        "--baselines",
        action="store_true",
        help="also fit and judge baselines on the config's corpus, with a quick learning curve",
    )
    p.add_argument("--config", type=Path, default=CONFIG)
    p.add_argument(
        "--curve", action="store_true", help="the learning curve of the config's whole training: four of them"
    )
    p.add_argument("--rounds", type=_count, default=1000, help="bootstrap resamplings")
    p.add_argument(
        "--evidence", action="store_true", help="whether motives fall without the words named as their evidence; slow"
    )
    p.add_argument("--offline", action="store_true", help="ask no model hub")

    p = _command(
        added, "compare", commands.compare, "two models on the same texts: changed answers, flows, significance"
    )
    p.add_argument("old", type=Path)
    p.add_argument("new", type=Path)
    p.add_argument("file", type=Path)
    _columns(p)
    p.add_argument("--labelled", action="store_true", help="judge the change by the labels in the file")

    p = _command(
        added, "trade-off", commands.trade_off, "quality against speed of several models, as table and picture"
    )
    p.add_argument("file", type=Path, help="labelled texts")
    p.add_argument("models", nargs="+", type=Path, help="model repositories")
    _columns(p)
    p.add_argument("--to", type=Path, default=Path("build/trade-off.png"))
    p.add_argument("--threads", type=int, default=0, help="processor threads; 0 leaves it to the engine")


def _models(added: Parsers) -> None:
    p = _command(added, "export", commands.export, "calibrate, and write the model repository that the sidecar serves")
    p.add_argument("--config", type=Path, default=CONFIG)
    p.add_argument("--model", type=Path, default=BUILD)
    p.add_argument("--to", type=Path, required=True)

    p = _command(added, "import", commands.adopt, "make a repository of an ONNX model, its tokenizer and its labels")
    p.add_argument(
        "onnx",
        type=Path,
        help="gives logits, or probabilities from a sigmoid or softmax: one a label, one more for abstention, or both; "
        "in the taxonomy's order, abstention last, where no names tell another",
    )
    p.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="names its outputs in its order, by the taxonomy's codes: one a line, or a config.json with id2label; "
        "by default the config.json beside it",
    )
    p.add_argument(
        "--outputs",
        choices=("logits", "probabilities"),
        default="",
        help="what it gives; by default judged by whether all lie from 0 to 1, of two heads each by itself",
    )
    p.add_argument("--tokenizer", type=Path, required=True, help="tokenizer.json")
    p.add_argument("--taxonomy", type=Path, required=True)
    p.add_argument("--to", type=Path, required=True)
    p.add_argument("--name", required=True)
    p.add_argument("--version", default="1.0.0")
    p.add_argument("--window", type=int, default=256)
    p.add_argument("--pad-id", type=int, default=0)
    p.add_argument("--prefix", default="")
    p.add_argument("--calibrate-on", type=Path, help="labelled texts the model was not trained on")
    _columns(p)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; 0 when it was done, 1 with a sentence on standard error when not, 130 when interrupted."""
    args = parser().parse_args(argv)
    try:
        args.run(args)
    except (TrainerError, TaxonomyError) as error:
        return _fail(str(error))
    except ModuleNotFoundError as error:
        return _fail(f"{error.name or error} is not installed; in the project's folder, pip install '.[trainer]'")
    except ImportError as error:  # of a version that another package refuses, or that lacks something
        return _fail(f"{error}; upgrade that package, or remove it where nothing needs it")
    except OSError as error:
        return _fail(f"{error.filename or 'a file'} could not be used: {error.strerror or error}")
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if args.trace:
            raise
        met = ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
        return _fail(f"{args.command} failed unexpectedly ({met}); motive-train --trace {args.command} ... shows where")
    return 0


def _fail(sentence: str) -> int:
    print(f"motive-train: {sentence}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
