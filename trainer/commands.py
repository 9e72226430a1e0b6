"""What each `motive-train` command does with its flags: calls one function of the trainer, and says what came out.

Imports stand inside the functions: `motive-train label` should not wait for torch.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.errors import TrainerError
from trainer.progress import bar, say, stage

if TYPE_CHECKING:
    from sidecar.repository import Taxonomy
    from trainer.learn import Targets
    from trainer.texts import Example

CONFIG = Path(__file__).resolve().with_name("released.toml")
BUILD = Path("build/model")
SHIPPED = Path("sidecar/model/motive")
"""The released model, in a clone of the project."""


def prepare(args: argparse.Namespace) -> None:
    """Reads files and a database, cleans, drops duplicates, splits, writes corpus and report."""
    from sidecar.repository import read_taxonomy
    from trainer.prepare import prepare as prepared
    from trainer.prepare import write_prepared
    from trainer.readers import read_database

    taxonomy = read_taxonomy(args.taxonomy)
    examples: list[Example] = []
    if args.dsn:  # before the files: of a text that is in both, the label that a person corrected stays
        examples += read_database(args.dsn, args.query) if args.query else read_database(args.dsn)
    for path in args.files:
        examples += _read(path, args, taxonomy)
    if not examples:
        raise TrainerError("no text was read; give files, or --dsn")
    parts, report = prepared(examples, taxonomy, (args.calibration_share, args.test_share), args.seed, args.resemblance)
    write_prepared(args.to, parts, report)
    print(report.sentences())


def label(args: argparse.Namespace) -> None:
    """Asks an endpoint for votes; writes proposals to review and, with --accept, takes the agreed ones as labels.

    Nothing is written where the file to review holds what a person may have mended.
    """
    from sidecar.repository import read_taxonomy
    from trainer.label import Endpoint, check_review, propose, summary, write_review
    from trainer.readers import read_any
    from trainer.texts import write_examples

    temperature = {"default": 0.7 if args.votes > 1 else 0.0, "none": None}.get(args.temperature, args.temperature)
    endpoint = Endpoint(
        args.model, args.url, args.key, args.votes, temperature, not args.no_seed, args.price_in, args.price_out,
        args.parallel, args.timeout,
    )  # fmt: skip
    examples = read_any(args.file, text_column=args.text_column, labels=False)
    journal = args.to.with_suffix(".votes.jsonl")
    with bar("votes") as advance:
        proposals = propose(examples, read_taxonomy(args.taxonomy), endpoint, journal, advance)
    print(summary(proposals, endpoint))
    good = [p for p in proposals if p.votes and p.agreement >= args.agreement]
    taken = {p.example.text for p in good} if args.accept else set()
    rest = [p for p in proposals if p.example.text not in taken]
    review = args.to.with_suffix(".review.jsonl")
    check_review(review, proposals)
    write_review(review, rest)
    print(f"{len(rest)} texts to review are in {review}, those that the votes agree on least first.")
    if args.accept:
        write_examples(args.to, [p.example for p in good])
        print(f"{len(good)} texts written to {args.to}.")
    else:
        print(f"With --accept, {len(good)} would be taken as they are.")


def train(args: argparse.Namespace) -> None:
    """Fine-tunes what the config asks for."""
    from trainer.config import read_config
    from trainer.train import train as trained

    figures = trained(read_config(args.config), args.to, resume=args.resume, offline=args.offline)
    print(f"Trained in {figures['train_runtime']:.0f} s; loss {figures['train_loss']:.3f}; written to {args.to}.")


def calibrate(args: argparse.Namespace) -> None:
    """Fits what `export` will fit, and says each motive's threshold and which method would do better."""
    import numpy as np

    from trainer.calibrate import fit_calibration, log_losses
    from trainer.config import read_config
    from trainer.export import held_out, unseen_parts
    from trainer.train import read_trained

    config, trained = read_config(args.config), read_trained(args.model)
    with stage("calibrating"):
        logits, wanted = held_out(config, trained, unseen_parts(config, trained))
        calibration = fit_calibration(trained.taxonomy.codes, logits, wanted, config.release.calibration)
        losses = log_losses(logits.astype(np.float64), wanted.motives.astype(np.float64))
    print(f"{'motive':24} threshold  log loss on unseen texts: platt  isotonic")
    for code, limit, loss in zip(calibration.labels, calibration.thresholds, losses, strict=True):
        print(f"{code:24} {limit:9.2f}  {loss['platt']:31.4f}  {loss['isotonic']:8.4f}")


def export(args: argparse.Namespace) -> None:
    """Writes the model repository."""
    from trainer.config import read_config
    from trainer.export import export as exported

    with stage("exporting, and comparing with torch"):
        difference = exported(read_config(args.config), args.model, args.to)
    print(f"Exported to {args.to}; largest difference from torch {difference:.1e}.")


def release(args: argparse.Namespace) -> None:
    """Trains, calibrates and exports; what would stop the last steps is said before the first.

    Only the project's own config, wherever a copy of it lies, takes the place of the shipped model without being told.
    """
    from sidecar.repository import read_taxonomy
    from trainer.calibrate import check_enough
    from trainer.config import read_config
    from trainer.destination import check_for_repository
    from trainer.train import corpus_split

    config = read_config(args.config)
    to = args.to or (SHIPPED if args.config.read_bytes() == CONFIG.read_bytes() else None)
    if to is None:
        raise TrainerError(f"name the folder of the new model with --to: {SHIPPED} is that of the released one")
    check_for_repository(to)
    check_enough(len(corpus_split(config, read_taxonomy(config.taxonomy_path)).calibration))
    train(argparse.Namespace(config=args.config, to=BUILD, resume=args.resume, offline=args.offline))
    export(argparse.Namespace(config=args.config, model=BUILD, to=to))


def evaluate(args: argparse.Namespace) -> None:
    """Judges a model, beside baselines where asked, and writes report, figures and card."""
    from trainer.answer import open_model
    from trainer.evaluate import evaluate as evaluated
    from trainer.evidence import check_evidence
    from trainer.language import detect_language
    from trainer.measure import Fitted, check_same_labels, fine_tuning_curve, fit_baselines
    from trainer.presentation import sentences, write_report

    model = open_model(args.model)
    if args.baselines or args.curve:
        check_same_labels(args.config, model.repository.taxonomy)
    given = _labelled(args.file, args, model.repository.taxonomy)
    examples = [replace(e, lang=e.lang or detect_language(e.text)) for e in given]
    fitted = Fitted()
    if args.baselines:
        with stage("fitting baselines and the learning curve"):
            fitted = fit_baselines(args.config, examples, offline=args.offline)
    with stage(f"judging on {len(examples)} texts"):
        evaluation = evaluated(model, examples, fitted.baselines, rounds=args.rounds)
    evaluation = replace(evaluation, left_out=fitted.left_out, curve=fitted.curve)
    if args.evidence:
        with bar("evidence") as advance:
            found = check_evidence(model, [e.text for e in examples], advance)
        evaluation = replace(evaluation, evidence=found)
    print(sentences(evaluation))
    report = write_report(args.to, evaluation, model.repository)
    if args.curve:  # last: a training that fails after hours leaves the report
        curve = fine_tuning_curve(args.config, examples, offline=args.offline)
        print(curve.sentences())
        report = write_report(args.to, replace(evaluation, curve=curve), model.repository)
    print(f"Report: {report}")


def distill(args: argparse.Namespace) -> None:
    """Writes what teachers say of the corpus: trained ones, or ones that are trained for it fold by fold."""
    from trainer.distill import write_votes

    if bool(args.teachers) == bool(args.folds):
        raise TrainerError("whose votes? give either folders of trained teachers, or --folds to train them")
    texts, votes, taxonomy = _cross_fitted(args) if args.folds else _of_trained(args)
    write_votes(args.to, texts, votes, (*taxonomy.codes, taxonomy.abstention.code))
    print(f"Votes on {len(texts)} texts written to {args.to}; name it as [optimisation] teacher and train the student.")


def _of_trained(args: argparse.Namespace) -> "tuple[list[str], Targets, Taxonomy]":
    from sidecar.repository import read_taxonomy
    from trainer.config import read_config
    from trainer.distill import soft_votes
    from trainer.export import trained_logits
    from trainer.train import corpus_split, read_trained, training_examples

    config = read_config(args.config)
    taxonomy = read_taxonomy(config.taxonomy_path)
    teachers = [read_trained(folder) for folder in args.teachers]
    for teacher in teachers:
        if teacher.taxonomy.codes != taxonomy.codes:
            raise TrainerError(
                f"{teacher.folder} knows other labels than {args.config}; train it anew, or leave it out"
            )
    texts = [e.text for e in training_examples(config, corpus_split(config, taxonomy))]
    with stage(f"asking {len(teachers)} teachers of {len(texts)} texts"):
        logits = [trained_logits(teacher, texts, config.release.window) for teacher in teachers]
    return texts, soft_votes(logits, len(taxonomy.codes), args.temperature), taxonomy


def _cross_fitted(args: argparse.Namespace) -> "tuple[list[str], Targets, Taxonomy]":
    from trainer.config import read_config
    from trainer.crossfit import cross_fitted_votes

    student, teacher = read_config(args.config), read_config(args.teacher_config)
    work = args.to.with_name(args.to.name + ".folds")
    result = cross_fitted_votes(
        student, teacher, args.folds, args.seeds, work, temperature=args.temperature, offline=args.offline
    )
    print(f"What each teacher said is kept in {work}, for more seeds; it may be removed.")
    return result


def adopt(args: argparse.Namespace) -> None:
    """Makes a repository of somebody's own ONNX model."""
    from sidecar.repository import read_taxonomy
    from trainer.adopt import adopt as adopted

    labelled = _labelled(args.calibrate_on, args, read_taxonomy(args.taxonomy)) if args.calibrate_on else ()
    adopted(
        args.onnx, args.tokenizer, args.taxonomy, args.to, name=args.name, version=args.version, window=args.window,
        pad_id=args.pad_id, prefix=args.prefix, labelled=labelled, outputs=args.outputs, names=args.labels,
    )  # fmt: skip
    print(f"Imported to {args.to}; `motive serve --engine onnx:{args.to}` serves it.")


def compare(args: argparse.Namespace) -> None:
    """Says what changes from one model to another."""
    from trainer.answer import open_model
    from trainer.compare import compare as compared
    from trainer.readers import read_any

    old, new = open_model(args.old), open_model(args.new)
    taxonomy = new.repository.taxonomy
    examples = (
        _labelled(args.file, args, taxonomy)
        if args.labelled
        else read_any(args.file, text_column=args.text_column, labels=False)
    )
    found = compared(old, new, examples, labelled=args.labelled)
    print(found.sentences(taxonomy.abstention.code))


def trade_off(args: argparse.Namespace) -> None:
    """Measures quality and speed of several models on the same texts; writes the picture."""
    from trainer.answer import open_model
    from trainer.trade_off import measure, picture, sentences

    examples = _labelled(args.file, args, open_model(args.models[0]).repository.taxonomy)
    points = []
    with bar("models") as advance:
        for done, path in enumerate(args.models):
            advance(done, len(args.models))
            points.append(measure(open_model(path, threads=args.threads), examples))
        advance(len(args.models), len(args.models))
    args.to.parent.mkdir(parents=True, exist_ok=True)
    args.to.write_bytes(picture(points))
    print(sentences(points))
    print(f"Picture: {args.to}")


def card(args: argparse.Namespace) -> None:
    """Writes the data card of a corpus: a folder with its foreword and readings, or files alone."""
    from sidecar.repository import read_taxonomy
    from trainer.agreement import read_readings
    from trainer.data_card import data_card
    from trainer.texts import read_examples

    if args.files and not args.to:
        raise TrainerError("name the card of these files with --to")
    files = sorted(args.files) or sorted(args.corpus.glob("*.jsonl"))
    if not files:
        raise TrainerError(f"{args.corpus} holds no .jsonl file; name the corpus's files")
    of_folder = [] if args.files else sorted(args.corpus.glob("review/*.jsonl"))
    readings = [r for path in of_folder for r in read_readings(path)]
    foreword = args.corpus / "FOREWORD.md"
    own = not args.files and foreword.is_file()
    said = foreword.read_text(encoding="utf-8") if own else "# The corpus\n"
    text = data_card({path.name: read_examples(path) for path in files}, read_taxonomy(args.taxonomy), readings, said)
    to = args.to or args.corpus / "README.md"
    to.write_text(text, encoding="utf-8")
    print(f"Data card: {to}")


def _read(path: Path, args: argparse.Namespace, taxonomy: "Taxonomy") -> "list[Example]":
    from trainer.readers import read_any

    none = taxonomy.abstention.code
    return read_any(path, text_column=args.text_column, label_column=args.label_column, abstention=none)


def _labelled(path: Path, args: argparse.Namespace, taxonomy: "Taxonomy") -> "list[Example]":
    """The texts of a file that bear a label; says how many do not."""
    from trainer.texts import labelled

    every = _read(path, args, taxonomy)
    kept = labelled(every)
    if len(kept) < len(every):
        say(f"{len(every) - len(kept)} of {len(every)} texts in {path} bear no label, and are left out")
    return kept
