"""The commands that the workflow's rules call; each can be pasted into a terminal and run by hand.

    python -m pipeline catalog ted --settings JSON --output results/ted/catalog.parquet
    python -m pipeline describe results/ted/dataset.parquet

Settings travel as one JSON argument. A mistake of the user's ends a command with one line and no traceback.
"""

import argparse
import json
import os
import signal
import sys
from typing import Any

from pipeline import corpora, steps, store
from pipeline.errors import UserError
from pipeline.progress import log


def catalog(args: argparse.Namespace) -> None:
    """Read a corpus into its catalog."""
    made = corpora.adapter(args.corpus).prepare(args.settings)
    _write_catalog(args, made, args.output)


def published(args: argparse.Namespace) -> None:
    """Read the authors' published features of a corpus into catalog, dataset and quality."""
    from pipeline import dataset as datasets
    from pipeline.corpora import published as authors

    read = authors.read(args.corpus, args.settings)
    pooled = {modality: datasets.Pooled.of(vectors) for modality, vectors in read.features.items()}
    made_by = _write_catalog(args, read.catalog, args.catalog)
    store.write(args.dataset, datasets.join(read.catalog.table, pooled), "dataset", {**made_by, "step": "dataset"})
    store.write(
        args.quality, datasets.quality(read.catalog.table, None, pooled), "quality", {**made_by, "step": "quality"}
    )


def _write_catalog(args: argparse.Namespace, made: corpora.Catalog, path: str) -> dict[str, Any]:
    for note in made.notes:
        log(note)
    made_by = store.provenance(
        "catalog",
        args.corpus,
        args.settings,
        steps.code_of_catalog(args.corpus, args.settings),
        steps.annotation_files(args.corpus, args.settings),
        task=made.task,
        classes=made.classes,
        left_out=made.left_out,
    )
    store.write(path, made.table, "catalog", made_by)
    return made_by


def media(args: argparse.Namespace) -> None:
    """Fetch and convert the sound of one shard."""
    from pipeline.media import shard

    number, shards = args.shard
    shard.run(
        corpus=args.corpus,
        catalog_path=args.catalog,
        shard=number,
        shards=shards,
        settings=args.settings,
        attempt=args.attempt,
        output_path=args.output,
    )


def weights(args: argparse.Namespace) -> None:
    """Convert the weights of an extractor, and prove the conversion."""
    from pipeline.features import bundle

    bundle.convert_weights(args.modality, args.settings, args.output)


def features(args: argparse.Namespace) -> None:
    """Compute the rows of one shard and modality."""
    from pipeline import memory
    from pipeline.features import shard

    memory.keep_freed()
    number, shards = args.shard
    shard.run(
        modality=args.modality,
        catalog_path=args.catalog,
        media_path=args.media,
        shard=number,
        shards=shards,
        settings=args.settings,
        weights_path=args.weights,
        output_path=args.output,
    )


def dataset(args: argparse.Namespace) -> None:
    """Pool a corpus's features over time and join them by item_id."""
    import pyarrow as pa

    from pipeline import dataset as datasets

    pooled, paths = {}, [args.catalog]
    for modality in store.MODALITIES:
        files = getattr(args, modality)
        if files:
            pooling = args.settings.get(modality, {}).get("pooling")
            pooled[modality] = datasets.pool(files, datasets.column_of(pooling))
            paths += files
    items = store.read(args.catalog, "catalog")
    fetched = None
    if args.media:
        columns = ["item_id", "status", "reason"]
        fetched = pa.concat_tables(store.read(path, "media", columns) for path in args.media)
    of_catalog = store.read_provenance(args.catalog)
    made_by = store.provenance(
        "dataset",
        args.corpus,
        args.settings,
        steps.code_of_dataset(),
        paths,
        weights={modality: _extractor_of(getattr(args, modality)[0]) for modality in pooled},
        task=of_catalog["task"],
        classes=of_catalog["classes"],
        left_out=of_catalog["left_out"],
    )
    joined = datasets.join(items, pooled)
    checked = datasets.quality(items, fetched, pooled)
    store.write(args.dataset, joined, "dataset", made_by)
    store.write(args.quality, checked, "quality", {**made_by, "step": "quality"})
    statuses = checked["status"].value_counts().to_pylist()
    log(", ".join(f"{entry['counts']} {entry['values']}" for entry in statuses))


def _extractor_of(feature_path: str) -> Any:
    return store.read_provenance(feature_path)["extractor"]


def describe(args: argparse.Namespace) -> None:
    """Print what made a file."""
    made_by = store.read_provenance(args.file)
    with store.open_file(args.file, None) as file:
        rows, columns = file.metadata.num_rows, ", ".join(f"{f.name} ({f.type})" for f in file.schema_arrow)
    print(f"{args.file}: {rows} rows\ncolumns: {columns}")
    items = made_by.pop("items", None)
    if items is not None:
        made_by["items"] = f"{len(items)} items"
    print(json.dumps(made_by, indent=2, sort_keys=True, ensure_ascii=False))


def _shard(text: str) -> tuple[int, int]:
    try:
        number, shards = map(int, text.split("/"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no shard; write NUMBER/COUNT, for example 3/64") from None
    if not 0 <= number < shards:
        raise argparse.ArgumentTypeError(f"{text}: the number must be 0 to {shards - 1}")
    return number, shards


def _settings(text: str) -> dict[str, Any]:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from None


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m pipeline", description="From recordings to dataset.parquet.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(function: Any, *names: str, shard: bool = False) -> argparse.ArgumentParser:
        sub = commands.add_parser(function.__name__, help=function.__doc__)
        sub.set_defaults(run=function)
        for name in names:
            sub.add_argument(name)
        if function is not describe:
            sub.add_argument("--settings", type=_settings, default={}, help="JSON object")
        if shard:
            sub.add_argument("--catalog", required=True)
            sub.add_argument("--shard", type=_shard, required=True, metavar="NUMBER/COUNT")
        return sub

    command(catalog, "corpus").add_argument("--output", required=True)
    for sub in (command(published, "corpus"), command(dataset, "corpus")):
        sub.add_argument("--catalog", required=True)
        sub.add_argument("--dataset", required=True)
        sub.add_argument("--quality", required=True)
    for option in ("media", *store.MODALITIES):
        sub.add_argument(f"--{option}", nargs="+", default=[], metavar="FILE")
    sub = command(media, "corpus", shard=True)
    sub.add_argument("--attempt", type=int, default=1)
    sub.add_argument("--output", required=True)
    command(weights, "modality").add_argument("--output", required=True)
    sub = command(features, "modality", shard=True)
    sub.add_argument("--media")
    sub.add_argument("--weights")
    sub.add_argument("--output", required=True)
    command(describe, "file")
    return top


def main() -> int:
    """Run one command; exit status 0, 1 with one line that says what to mend, or 130 where it was interrupted."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    args = parser().parse_args()
    try:
        args.run(args)
    except UserError as error:
        log(f"error: {error}")
        return 1
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        log("interrupted")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
