"""The commands of the training part; each can be pasted into a terminal and run by hand.

    python -m model splits ted --dataset F --catalog F --settings JSON --output results/ted/splits.parquet
    python -m model stage1 ted --protocol paper --teacher lexical-acoustic --dataset F --splits F --settings JSON ...
    python -m model tables --predictions F... --settings JSON --tables F... --runs F

Settings travel as one JSON argument. A mistake of the user's ends a command with one line and no traceback.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from pipeline import store
from pipeline.errors import UserError
from pipeline.fingerprint import fingerprint
from pipeline.progress import log


def splits(args: argparse.Namespace) -> None:
    """Make the splits of a corpus for every configured protocol."""
    import pyarrow as pa

    from model import splits as made
    from model.items import complete_items

    dataset = store.read(args.dataset, "dataset")
    table = complete_items(dataset)
    if table.num_rows < dataset.num_rows:
        log(f"{dataset.num_rows - table.num_rows} of {dataset.num_rows} items lack a modality and take no part")
    ids, groups = table["item_id"].to_pylist(), table["group"].to_pylist()
    catalog = store.read(args.catalog, "catalog")
    sessions = made.sessions_of(ids, catalog.to_pydict())
    own = args.settings
    assignments = []
    if "paper" in own["protocols"]:
        assignments += made.paper_splits(len(ids), own["runs"], own["seed"])
    if "grouped" in own["protocols"]:
        assignments += made.grouped_splits(groups, own["folds"], own["repeats"], own["seed"], sessions)
    made.check(assignments, groups)
    grouped = [assignment for assignment in assignments if assignment.protocol == "grouped"]
    folds = {"paper": 1, "grouped": made.folds_of(grouped) if grouped else None}
    for protocol in own["protocols"]:
        count = sum(assignment.protocol == protocol for assignment in assignments)
        log(f"{args.corpus}, {protocol}: {len(ids)} items, {len(set(groups))} groups, {count} runs")
    names = pa.array(made.PARTS)
    rows = pa.concat_tables(
        pa.table(
            {
                "item_id": ids,
                "protocol": pa.array([assignment.protocol] * len(ids)),
                "run": pa.array([assignment.run] * len(ids), pa.int32()),
                "split": names.take(pa.array(assignment.part)),
            }
        )
        for assignment in assignments
    )
    made_by = store.provenance(
        "splits",
        args.corpus,
        own,
        fingerprint("model.splits", "model.items"),
        [args.dataset, args.catalog],
        folds=folds,
        left_out=dataset.num_rows - table.num_rows,
    )
    store.write(args.output, rows, "splits", made_by)


def linear(args: argparse.Namespace) -> None:
    """Predict with the baselines that are no network."""
    from model import linear as baseline
    from model.data import read_corpus, read_splits

    corpus = read_corpus(args.dataset, args.corpus)
    rows = baseline.rows(corpus, read_splits(args.splits, args.protocol, corpus.item_ids), args.settings["balance"])
    made_by = _made_by("linear", args, fingerprint("model.linear", "model.data"), [args.dataset, args.splits])
    _write_predictions(args.output, corpus, rows, made_by)


def baselines(args: argparse.Namespace) -> None:
    """Train the unimodal networks and, where there are several modalities, the multimodal one."""
    from model.variants import STUDENTS

    trainer = _trainer(args)
    everything = tuple(trainer.task.corpus.features)
    for modality in STUDENTS:
        if modality in everything:
            trainer.plain((modality,))
    if len(everything) > 1:
        trainer.plain(everything)
    _write_trained("baselines", args, trainer, [])


def distilled(args: argparse.Namespace) -> None:
    """Train the distilled students, taught by the multimodal baseline."""
    from model import checkpoint
    from model.variants import STUDENTS

    trainer = _trainer(args)
    teacher, _ = checkpoint.read(args.baselines)
    for modality in STUDENTS:
        if modality in trainer.task.corpus.features:
            trainer.distilled(modality, teacher)
    _write_trained("distilled", args, trainer, [args.baselines])


def stage1(args: argparse.Namespace) -> None:
    """Train the teacher's encoder and decoder to reconstruct (equation 1)."""
    trainer = _trainer(args)
    trainer.stage1(args.teacher)
    _write_trained("stage1", args, trainer, [])


def stage2(args: argparse.Namespace) -> None:
    """Train the student's encoder to land on the teacher's latent (equation 2)."""
    from model import checkpoint

    trainer = _trainer(args)
    trainer.stage2(args.teacher, args.modality, checkpoint.read(args.stage1)[0])
    _write_trained("stage2", args, trainer, [args.stage1])


def stage3(args: argparse.Namespace) -> None:
    """Train teacher, head and student together (equation 3), from each start that the variants need."""
    from model import checkpoint
    from model.train import borrowed

    trainer = _trainer(args)
    notes: dict[str, str] = {}
    inputs: list[str] = []
    pairs = {"pretrained": args.own} if args.own else {}
    pairs |= {f"other.{source}": paths for source, *paths in args.other}
    if args.scratch:
        trainer.stage3(args.teacher, args.modality, "scratch", None)
    for start, (teacher_path, student_path) in pairs.items():
        networks = (
            checkpoint.network(checkpoint.read(teacher_path)[0], "pretrained", "teacher"),
            checkpoint.network(checkpoint.read(student_path)[0], "pretrained", "student"),
        )
        inputs += [teacher_path, student_path]
        if start.startswith("other."):
            networks, note = borrowed(trainer.task, args.teacher, args.modality, networks)
            if note:
                notes[start] = f"{start.removeprefix('other.')} cannot lend its pre-training to {args.corpus}: {note}"
                log(notes[start])
                continue
        trainer.stage3(args.teacher, args.modality, start, networks)
    _write_trained("stage3", args, trainer, inputs, notes)


def stage4(args: argparse.Namespace) -> None:
    """Fine-tune the student of each variant (equation 4)."""
    from model import checkpoint
    from model.variants import STARTS

    trainer = _trainer(args)
    if trainer.task.settings[f"stage4.{args.modality}"]["fall_back"] and not args.baselines:
        raise UserError("stage 4 is told to fall back on the unimodal network: name its checkpoint with --baselines")
    tensors, metadata = checkpoint.read(args.stage3)
    baseline = checkpoint.read(args.baselines)[0] if args.baselines else None
    starts = sorted({name.split("/")[0] for name in tensors})
    for variant in args.variants:
        for start in starts:
            if start.split(".")[0] == STARTS[variant]:
                trainer.stage4(args.teacher, args.modality, variant, start, tensors, baseline)
    inputs = [args.stage3, args.baselines] if args.baselines else [args.stage3]
    _write_trained("stage4", args, trainer, inputs, metadata["notes"])


def evaluate(args: argparse.Namespace) -> None:
    """Predict the test items with every trained variant."""
    from model import checkpoint
    from model import evaluate as evaluation
    from model.train import trained_name
    from model.variants import OTHER_PRETRAIN

    task = _trainer(args).task
    inputs = [args.dataset, args.splits, args.baselines]
    tensors, _ = checkpoint.read(args.baselines)
    taught, _ = checkpoint.read(args.distilled) if args.distilled else ({}, None)
    rows = evaluation.baselines(task, tensors, taught)
    notes: dict[str, str] = {}
    for teacher, modality, variants, third, fourth in args.student:
        after3, _ = checkpoint.read(third)
        after4, metadata = checkpoint.read(fourth)
        rows |= evaluation.students(task, _modalities(teacher), modality, variants.split(","), after3, after4)
        told, refused = metadata["settings"]["stages"][f"stage4.{modality}"], metadata["notes"].items()
        notes |= {f"{modality}/{trained_name(OTHER_PRETRAIN, start)}": why for start, why in refused}
        notes |= evaluation.fallback_notes(modality, after3, after4, told)
        inputs += [third, fourth]
    inputs += [args.distilled] if args.distilled else []
    made_by = _made_by("evaluate", args, fingerprint("model.evaluate"), inputs, notes=notes)
    _write_predictions(args.output, task.corpus, rows, made_by)


def tune(args: argparse.Namespace) -> None:
    """Choose the settings of a student, for each run from its training and validation items alone."""
    from model import tune as tuning

    trials, grouped = args.settings["trials"], args.protocol == "grouped"
    choice = tuning.choose(_trainer(args).task, args.modality, trials, grouped)
    made_by = _made_by("tune", args, fingerprint("model.tune"), [args.dataset, args.splits])
    with store.atomic(args.output) as temporary:
        tuning.write(temporary, choice, made_by)


def tables(args: argparse.Namespace) -> None:
    """Make the result tables from all predictions."""
    import csv

    import pyarrow as pa

    from model import experiments
    from model import tables as made

    results = made.read_results(args.predictions)
    own = args.settings
    cells = experiments.cells(own["corpora"], own["tables"])
    rows = made.rows(cells, results)
    for number, path in zip(sorted(own["tables"]), args.tables, strict=True):
        with store.atomic(path) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, made.COLUMNS)
            writer.writeheader()
            writer.writerows(made.printable(row) for row in rows if row["table"] == number)
    made_by = store.provenance("tables", None, own, fingerprint("model.tables"), args.predictions)
    runs = made.runs(cells, results)
    columns = store.schema("runs").names
    store.write(args.runs, pa.table({name: pa.array([row[name] for row in runs]) for name in columns}), "runs", made_by)


def predict(args: argparse.Namespace) -> None:
    """Score new texts or recordings with a trained student; a line of JSON an item."""
    from model import predict as scoring

    student = scoring.read_student(args.checkpoint, args.variant, args.dataset, args.splits)
    found = scoring.predict(
        student,
        args.dataset,
        texts=args.text,
        text_files=args.text_file,
        audio=args.audio,
        settings=args.features,
        weights_path=args.weights,
    )
    for row in found:
        print(json.dumps(row, ensure_ascii=False))


def report(args: argparse.Namespace) -> None:
    """Make the report page."""
    from model.report import render

    page = render(args.tables, args.curves, args.datasets, args.quality)
    with store.atomic(args.output) as temporary:
        temporary.write_text(page)


def _trainer(args: argparse.Namespace) -> Any:
    """The corpus, its splits and the settings, ready to train."""
    import torch

    from model import tune
    from model.data import read_corpus, read_splits
    from model.train import Task, Trainer, device_of
    from pipeline import memory

    memory.keep_freed()
    torch.set_num_threads(args.threads)
    corpus = read_corpus(args.dataset, args.corpus)
    own = args.settings
    return Trainer(
        Task(
            corpus,
            read_splits(args.splits, args.protocol, corpus.item_ids),
            own["stages"],
            own["seed"],
            device_of(args.device),
            tune.read(args.choice),
        )
    )


def _made_by(step: str, args: argparse.Namespace, code: str, inputs: Iterable[str], **more: Any) -> dict[str, Any]:
    """Provenance of a file of the training part."""
    folds = store.read_provenance(args.splits)["folds"][args.protocol]
    labels = store.read_provenance(args.dataset)
    return store.provenance(
        step,
        args.corpus,
        args.settings,
        code,
        inputs,
        protocol=args.protocol,
        name=args.name,
        folds=folds,
        task=labels["task"],
        classes=labels["classes"],
        **more,
    )


def _write_trained(
    step: str, args: argparse.Namespace, trainer: Any, inputs: Sequence[str], notes: dict[str, str] | None = None
) -> None:
    """Write a stage's checkpoint and its learning curves."""
    import pyarrow as pa

    from model import checkpoint
    from model.train import kept_metrics

    made_by = _made_by(step, args, fingerprint("model.train"), [args.dataset, args.splits, *inputs], notes=notes or {})
    curves = trainer.trained.curves
    columns = {
        "corpus": [args.corpus] * len(curves),
        "protocol": [args.protocol] * len(curves),
        "settings": [args.name] * len(curves),
        "modality": [label.modality for label, _ in curves],
        "variant": [label.variant for label, _ in curves],
        "stage": [label.stage for label, _ in curves],
    } | {
        name: [getattr(point, name) for _, point in curves]
        for name in ("run", "epoch", "train_loss", "val_loss", "val_task_loss", "val_metric", "kept")
    }
    table = pa.table({field.name: pa.array(columns[field.name], field.type) for field in store.schema("curves")})
    store.write(args.curves, table, "curves", made_by)
    checkpoint.write(args.output, trainer.trained.tensors, {**made_by, "metrics": kept_metrics(curves)})


def _write_predictions(path: str, corpus: Any, rows: dict[Any, Any], made_by: dict[str, Any]) -> None:
    """Write the predictions of several variants as one table."""
    import pyarrow as pa

    group_of = dict(zip(corpus.item_ids, corpus.groups.tolist(), strict=True))
    target_of = dict(zip(corpus.item_ids, corpus.target.double().tolist(), strict=True))
    parts = [
        pa.table(
            {
                "item_id": ids,
                "group": [group_of[item_id] for item_id in ids],
                "target": [target_of[item_id] for item_id in ids],
                "modality": [modality] * len(ids),
                "variant": [variant] * len(ids),
                "teacher": [teacher] * len(ids),
                "run": pa.array(runs, pa.int32()),
                "prediction": pa.array(values, pa.float64()),
            }
        )
        for (modality, variant, teacher), (ids, runs, values) in rows.items()
    ]
    store.write(path, pa.concat_tables(parts), "predictions", made_by)


def _modalities(text: str) -> tuple[str, ...]:
    """`lexical-acoustic` as a teacher's modalities."""
    return tuple(text.split("-"))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="python -m model", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def add(command, *options: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(command.__name__, help=command.__doc__, description=command.__doc__)
        sub.set_defaults(command=command)
        for option in options:
            if option == "corpus":
                sub.add_argument(option)
            elif option == "settings":
                sub.add_argument("--settings", type=json.loads, required=True, metavar="JSON")
            elif option == "protocol":
                sub.add_argument("--protocol", choices=("paper", "grouped"), required=True)
            elif option == "teacher":
                sub.add_argument("--teacher", type=_modalities, required=True, help="modalities, as lexical-acoustic")
            else:
                sub.add_argument(f"--{option}", required=True)
        return sub

    def add_training(command, *options: str, curves: bool = True) -> argparse.ArgumentParser:
        sub = add(command, "corpus", "protocol", "name", "dataset", "splits", *options, "settings", "output")
        if curves:
            sub.add_argument("--curves", required=True)
        sub.add_argument("--device", default="auto", help="auto, cpu, cuda")
        sub.add_argument("--threads", type=int, default=1)
        sub.add_argument("--choice", nargs="+", default=[], metavar="FILE", help="what tuning chose, for each student")
        return sub

    add(splits, "corpus", "dataset", "catalog", "settings", "output")
    add(linear, "corpus", "protocol", "dataset", "splits", "settings", "output").set_defaults(name=None)
    add_training(baselines)
    add_training(distilled, "baselines")
    add_training(stage1, "teacher")
    add_training(stage2, "teacher", "modality", "stage1")
    third = add_training(stage3, "teacher", "modality")
    third.add_argument("--scratch", action="store_true", help="train from fresh networks too")
    third.add_argument("--own", nargs=2, metavar=("STAGE1", "STAGE2"), help="train from this corpus's pre-training")
    third.add_argument("--other", nargs=3, action="append", default=[], metavar=("CORPUS", "STAGE1", "STAGE2"))
    fourth = add_training(stage4, "teacher", "modality", "stage3")
    fourth.add_argument("--variants", nargs="+", required=True)
    fourth.add_argument("--baselines", metavar="FILE", help="holds the networks of the runs that fall back")
    last = add_training(evaluate, "baselines", curves=False)
    last.add_argument("--distilled")
    last.add_argument(
        "--student",
        nargs=5,
        action="append",
        default=[],
        metavar=("TEACHER", "MODALITY", "VARIANTS", "STAGE3", "STAGE4"),
        help="the checkpoints of a student, and the variants (with commas) that are wanted of it",
    )
    add_training(tune, "modality", curves=False)
    made = add(tables, "settings", "runs")
    made.add_argument("--predictions", nargs="+", required=True)
    made.add_argument("--tables", nargs="+", required=True)
    scored = add(predict, "checkpoint", "variant", "dataset", "splits")
    new = scored.add_mutually_exclusive_group(required=True)
    new.add_argument("--text", nargs="+", default=[], help="each a text")
    new.add_argument("--text-file", nargs="+", default=[], metavar="FILE", help="each a text, in UTF-8")
    new.add_argument("--audio", nargs="+", default=[], metavar="FILE", help="each a recording")
    scored.add_argument("--features", type=json.loads, metavar="JSON", help="the extractor, if its files are gone")
    scored.add_argument("--weights", metavar="FILE", help="its converted weights, if they lie elsewhere")
    page = add(report, "output")
    for option in ("tables", "curves", "datasets", "quality"):
        page.add_argument(f"--{option}", nargs="+", required=True)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 1 where the user has something to mend."""
    args = parser().parse_args(argv)
    try:
        args.command(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
