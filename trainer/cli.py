"""The `motive-train` command: reads flags, calls one function a subcommand, prints errors as one sentence."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.errors import TrainerError

Parsers = Any
CONFIG = Path(__file__).with_name("released.toml")
BUILD = Path("build/model")


def _prepare(args: argparse.Namespace) -> None:
    from sidecar.repository import read_taxonomy
    from trainer.prepare import prepare, write_prepared
    from trainer.readers import read_any, read_database

    columns = {"text_column": args.text_column, "label_column": args.label_column}
    examples = [e for path in args.files for e in read_any(path, **columns)]
    if args.dsn:
        examples += read_database(args.dsn, args.query) if args.query else read_database(args.dsn)
    if not examples:
        raise TrainerError("no text was read; give files, or --dsn")
    taxonomy = read_taxonomy(args.taxonomy)
    parts, report = prepare(examples, taxonomy, (args.calibration_share, args.test_share), args.seed, args.resemblance)
    write_prepared(args.to, parts, report)
    print(report.sentences())


def _label(args: argparse.Namespace) -> None:
    from sidecar.repository import read_taxonomy
    from trainer.label import Endpoint, propose, summary
    from trainer.readers import read_any
    from trainer.texts import write_examples

    endpoint = Endpoint(
        args.model, args.url, args.key, args.votes, args.price_in, args.price_out, args.parallel, args.timeout
    )
    examples = read_any(args.file, text_column=args.text_column)

    def progress(done: int, total: int) -> None:
        print(f"\r{done} of {total} votes", end="" if done < total else "\n", file=sys.stderr, flush=True)

    proposals = propose(examples, read_taxonomy(args.taxonomy), endpoint, args.to.with_suffix(".votes.jsonl"), progress)
    print(summary(proposals, endpoint))
    good = [p.example for p in proposals if p.agreement >= args.agreement]
    if args.accept:
        write_examples(args.to, good)
        print(f"{len(good)} texts written to {args.to}.")
    else:
        review = args.to.with_suffix(".review.jsonl")
        write_examples(review, [p.example for p in proposals])
        print(f"Proposals to review are in {review}; with --accept, {len(good)} would be taken as they are.")


def _train(args: argparse.Namespace) -> None:
    from trainer.config import read_config
    from trainer.train import train

    figures = train(read_config(args.config), args.to, resume=args.resume, offline=args.offline)
    print(f"Trained in {figures['train_runtime']:.0f} s; loss {figures['train_loss']:.3f}; written to {args.to}.")


def _calibrate(args: argparse.Namespace) -> None:
    from trainer.config import read_config
    from trainer.export import calibrate
    from trainer.train import read_trained

    calibration = calibrate(read_config(args.config), read_trained(args.model))
    calibration.write(args.model / "calibration.json")
    limits = (f"{code} {limit:.2f}" for code, limit in zip(calibration.labels, calibration.thresholds, strict=True))
    print(f"Thresholds: {', '.join(limits)}.")


def _export(args: argparse.Namespace) -> None:
    from trainer.config import read_config
    from trainer.export import export

    found = export(read_config(args.config), args.model, args.to)
    print(f"Exported to {args.to}; largest difference from torch {found.difference:.1e}.")


def _release(args: argparse.Namespace) -> None:
    _train(argparse.Namespace(config=args.config, to=BUILD, resume=args.resume, offline=args.offline))
    _export(argparse.Namespace(config=args.config, model=BUILD, to=args.to))


def _evaluate(args: argparse.Namespace) -> None:
    from dataclasses import replace

    from trainer.answer import open_model
    from trainer.evaluate import evaluate, write_report
    from trainer.measure import baselines_and_curve
    from trainer.readers import read_any

    model = open_model(args.model)
    examples = read_any(args.file)
    base, curve = baselines_and_curve(args.config, examples, offline=args.offline) if args.baselines else ({}, [])
    evaluation = replace(evaluate(model, examples, base, rounds=args.rounds), curve=curve)
    print(evaluation.sentences())
    print(f"Report: {write_report(args.to, evaluation, model.repository.taxonomy)}")


def _distill(args: argparse.Namespace) -> None:
    from trainer.config import read_config
    from trainer.distill import soft_votes, write_votes
    from trainer.export import trained_logits
    from trainer.train import corpus_split, read_trained

    config = read_config(args.config)
    teachers = [read_trained(folder) for folder in args.teachers]
    texts = [e.text for e in corpus_split(config, teachers[0].taxonomy).train]
    logits = [trained_logits(teacher, texts, config.release.window) for teacher in teachers]
    write_votes(args.to, texts, soft_votes(logits, len(teachers[0].taxonomy.codes), args.temperature))
    print(f"Votes on {len(texts)} texts written to {args.to}; name it as [optimisation] teacher and train the student.")


def _import(args: argparse.Namespace) -> None:
    from trainer.adopt import adopt
    from trainer.readers import read_any

    labelled = read_any(args.calibrate_on) if args.calibrate_on else ()
    adopt(
        args.onnx, args.tokenizer, args.taxonomy, args.to, name=args.name, version=args.version, window=args.window,
        pad_id=args.pad_id, prefix=args.prefix, labelled=labelled,
    )  # fmt: skip
    print(f"Imported to {args.to}; `motive serve --engine onnx:{args.to}` serves it.")


def _compare(args: argparse.Namespace) -> None:
    from trainer.answer import open_model
    from trainer.compare import compare
    from trainer.readers import read_any

    examples = read_any(args.file)
    print(compare(open_model(args.old), open_model(args.new), examples, labelled=args.labelled).sentences())


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(prog="motive-train", description="Train, judge and export models that name motives.")
    commands: Parsers = top.add_subparsers(required=True, metavar="COMMAND")
    taxonomy = Path(__file__).with_name("taxonomy.toml")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    p = command("prepare", _prepare, "clean and check labelled texts, drop near-duplicates, split, report")
    p.add_argument("files", nargs="*", type=Path, help="JSON Lines, CSV, Parquet, Label Studio or Argilla exports")
    p.add_argument("--dsn", help="also read corrections from this database")
    p.add_argument("--query", help="instead of the corrections: any query with the columns text and motives")
    p.add_argument("--to", type=Path, required=True, help="folder for corpus.jsonl and the report")
    p.add_argument("--taxonomy", type=Path, default=taxonomy)
    p.add_argument("--text-column", default="")
    p.add_argument("--label-column", default="")
    p.add_argument("--calibration-share", type=float, default=0.1)
    p.add_argument("--test-share", type=float, default=0.1)
    p.add_argument("--seed", type=int, default=17)
    p.add_argument("--resemblance", type=float, default=0.8, help="share of common shingles that makes a duplicate")

    p = command("label", _label, "propose labels for raw texts through an OpenAI-compatible endpoint")
    p.add_argument("file", type=Path, help="texts, labelled or not")
    p.add_argument("--to", type=Path, required=True, help="JSON Lines of the labelled texts")
    p.add_argument("--model", required=True)
    p.add_argument("--url", help="base URL of the endpoint, such as a local vLLM or Ollama")
    p.add_argument("--key", help="OPENAI_API_KEY by default")
    p.add_argument("--votes", type=int, default=3)
    p.add_argument("--agreement", type=float, default=1.0, help="share of votes that --accept asks for")
    p.add_argument("--accept", action="store_true", help="take agreed proposals without a person's review")
    p.add_argument("--price-in", type=float, default=0.0, help="dollars a million tokens read")
    p.add_argument("--price-out", type=float, default=0.0, help="dollars a million tokens written")
    p.add_argument("--parallel", type=int, default=4)
    p.add_argument("--timeout", type=float, default=60.0, help="seconds a request may take")
    p.add_argument("--taxonomy", type=Path, default=taxonomy)
    p.add_argument("--text-column", default="")

    for name, run, text in (
        ("train", _train, "fine-tune a pre-trained backbone on a corpus"),
        ("release", _release, "train, calibrate and export in one go"),
    ):
        p = command(name, run, text)
        p.add_argument("--config", type=Path, default=CONFIG)
        p.add_argument("--to", type=Path, default=BUILD if name == "train" else Path("sidecar/model/motive"))
        p.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
        p.add_argument("--offline", action="store_true", help="ask no model hub")

    p = command("calibrate", _calibrate, "fit confidences and thresholds on held-out texts")
    p.add_argument("--config", type=Path, default=CONFIG)
    p.add_argument("--model", type=Path, default=BUILD)

    p = command("export", _export, "calibrate, and write the model repository that the sidecar serves")
    p.add_argument("--config", type=Path, default=CONFIG)
    p.add_argument("--model", type=Path, default=BUILD)
    p.add_argument("--to", type=Path, required=True)

    p = command("evaluate", _evaluate, "judge an exported model on labelled texts; writes an HTML report")
    p.add_argument("model", type=Path, help="model repository")
    p.add_argument("file", type=Path, help="labelled texts")
    p.add_argument("--to", type=Path, default=Path("build/evaluation"))
    p.add_argument("--baselines", action="store_true", help="also fit and judge baselines on the config's corpus")
    p.add_argument("--config", type=Path, default=CONFIG)
    p.add_argument("--rounds", type=int, default=500, help="bootstrap resamplings")
    p.add_argument("--offline", action="store_true", help="ask no model hub")

    p = command("distill", _distill, "write what trained teachers say of the corpus, for a smaller student")
    p.add_argument("teachers", nargs="+", type=Path, help="folders that train wrote")
    p.add_argument("--config", type=Path, default=CONFIG)
    p.add_argument("--to", type=Path, required=True)
    p.add_argument("--temperature", type=float, default=1.0)

    p = command("import", _import, "make a repository of an ONNX model, its tokenizer and its labels")
    p.add_argument("onnx", type=Path)
    p.add_argument("--tokenizer", type=Path, required=True, help="tokenizer.json")
    p.add_argument("--taxonomy", type=Path, required=True)
    p.add_argument("--to", type=Path, required=True)
    p.add_argument("--name", required=True)
    p.add_argument("--version", default="1.0.0")
    p.add_argument("--window", type=int, default=256)
    p.add_argument("--pad-id", type=int, default=0)
    p.add_argument("--prefix", default="")
    p.add_argument("--calibrate-on", type=Path, help="labelled texts the model was not trained on")

    p = command("compare", _compare, "two models on the same texts: changed answers, flows, significance")
    p.add_argument("old", type=Path)
    p.add_argument("new", type=Path)
    p.add_argument("file", type=Path)
    p.add_argument("--labelled", action="store_true", help="judge the change by the labels in the file")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; 0 when it was done, 1 with a sentence on standard error when not, 130 when interrupted."""
    args = parser().parse_args(argv)
    try:
        args.run(args)
    except TrainerError as error:
        print(f"motive-train: {error}", file=sys.stderr)
        return 1
    except ImportError as error:
        print(f"motive-train: {error.name} is not installed; pip install 'pg-motive[trainer]'", file=sys.stderr)
        return 1
    except ValueError as error:  # the taxonomy's own error
        print(f"motive-train: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"motive-train: {error.filename or 'a file'} could not be used: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
