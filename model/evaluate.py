"""What each trained variant says of the items that it never saw.

Reads a dataset, its splits and the checkpoints of a protocol and settings; gives a prediction for every test item of
every run. `model.linear` gives the same rows for the baselines that are no network; `model.tables` counts.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from model import checkpoint, variants
from model.train import Task, teacher_name

# Columns of predictions.parquet beside item_id, run and prediction.
Row = tuple[str, str, str]  # modality, variant (with its source), teacher


@torch.no_grad()
def predictions(
    task: Task,
    modalities: tuple[str, ...],
    encoder: Mapping[str, Tensor],
    head: Mapping[str, Tensor],
) -> tuple[list[str], list[int], list[float]]:
    """Item, run and prediction of every test item of every run, by the given networks."""
    ids: list[str] = []
    runs: list[int] = []
    values: list[float] = []
    for block in task.blocks(modalities, "evaluate"):
        batch, _ = block.stack.part("test")
        answer = block.head(head)(block.encoder(modalities, encoder)(batch.features(modalities)))
        decided = block.stack.decide(answer).cpu()
        for number, split in enumerate(block.stack.splits):
            ids += [task.corpus.item_ids[row] for row in split.test]
            runs += [split.run] * len(split.test)
            values += decided[number, : len(split.test)].tolist()
    return ids, runs, values


def baselines(task: Task, tensors: Mapping[str, Tensor], distilled: Mapping[str, Tensor]) -> dict[Row, Any]:
    """The predictions of the unimodal, the multimodal and the distilled networks."""
    rows: dict[Row, Any] = {}
    everything = teacher_name(tuple(task.corpus.features))
    for name in sorted({key.rpartition("/")[0] for key in (*tensors, *distilled)}):
        modality, variant = name.split("/")
        source = distilled if variant == variants.DISTILLED else tensors
        networks = (checkpoint.network(source, name, part) for part in ("encoder", "head"))
        rows[modality, variant, everything] = predictions(task, tuple(modality.split("-")), *networks)
    return rows


def students(
    task: Task,
    teacher: tuple[str, ...],
    modality: str,
    wanted: Sequence[str],
    stage3: Mapping[str, Tensor],
    stage4: Mapping[str, Tensor],
) -> dict[Row, Any]:
    """The predictions of a student's variants: after stage 4, or after stage 3 with the teacher's head."""
    rows: dict[Row, Any] = {}
    for variant in wanted:
        source = stage4 if variant in variants.FINETUNED else stage3
        start = variants.STARTS[variant]
        names = [variant] if variant in variants.FINETUNED else [start]
        if variant == variants.OTHER_PRETRAIN:
            names = sorted({key.split("/")[0] for key in stage4 if key.startswith(f"{variant}.")})
        for name in names:
            networks = (checkpoint.network(source, name, part) for part in ("student", "head"))
            written = name if variant == variants.OTHER_PRETRAIN else variant
            rows[modality, written, teacher_name(teacher)] = predictions(task, (modality,), *networks)
    return rows
