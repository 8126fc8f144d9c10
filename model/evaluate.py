"""What each trained variant says of the items that it never saw.

Reads a dataset, its splits and the checkpoints of a protocol and settings; gives a prediction for every test item of
every run. `model.linear` gives the same rows for the baselines that are no network; `model.tables` counts.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from model import checkpoint, variants
from model.fallback import LEARNED, falling_back
from model.train import Task, start_of, teacher_name

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
        if variant in variants.FINETUNED:
            found = [(name, stage4, name) for name in finetuned_names(variant, stage4)]
        else:
            found = [(variants.STARTS[variant], stage3, variant)]
        for name, source, written in found:
            networks = (checkpoint.network(source, name, part) for part in ("student", "head"))
            rows[modality, written, teacher_name(teacher)] = predictions(task, (modality,), *networks)
    return rows


def finetuned_names(variant: str, stage4: Mapping[str, Tensor]) -> list[str]:
    """Under which names stage 4 left a variant: its own, or one for each corpus that lent its pre-training."""
    names = {key.split("/")[0] for key in stage4}
    return sorted(name for name in names if name.split(".")[0] == variant)


def fallback_notes(
    modality: str, stage3: Mapping[str, Tensor], stage4: Mapping[str, Tensor], told: Mapping[str, Any]
) -> dict[str, str]:
    """How many runs of each variant fell back on the unimodal network, by `modality/variant`; `told`: stage 4."""
    notes = {}
    for variant in variants.FINETUNED:
        for name in finetuned_names(variant, stage4):
            start = start_of(variant, name)
            alone = len(falling_back(stage3, start, told))
            if alone:
                of_all = len(stage3[f"{start}/{LEARNED}"])
                notes[f"{modality}/{name}"] = (
                    f"the unimodal network in {alone} of {of_all} trainings, whose teacher has learned nothing"
                )
    return notes
