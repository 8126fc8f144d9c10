"""A training whose loss is lost ends its command with an error that says where, and leaves nothing behind."""

import json
import re

import numpy as np
import pyarrow as pa
import pytest
import torch

from model import __main__ as commands
from model import checkpoint
from model.settings import PAPER, STAGES, merge, of_stages
from model.variants import OURS, STUDENTS
from pipeline import store

BOTH = "lexical-acoustic"
ITEMS, WIDTHS = 40, {"lexical": 6, "acoustic": 3}
LOST = 1e25  # a learning rate after whose first step no number is left


def run(*argv) -> int:
    return commands.main([str(word) for word in argv])


def training(folder, command, *more, output, **settings) -> int:
    told = of_stages(merge(PAPER, {"epochs": 3, "hidden": 8, "latent": 4, **settings}), STAGES, STUDENTS)
    return run(
        command,
        "toy",
        *("--protocol", "paper", "--name", "paper", "--settings", json.dumps({"seed": 0, "stages": told})),
        *("--dataset", folder / "dataset.parquet", "--splits", folder / "splits.parquet"),
        *("--output", folder / output, "--curves", folder / f"{output}.curves.parquet", *more),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A dataset of noise, its splits, and a good checkpoint of every stage that another begins with."""
    folder = tmp_path_factory.mktemp("toy")
    rng = np.random.default_rng(0)
    rows = [
        {"item_id": f"item{n:02d}", "group": f"speaker{n:02d}", "target": float(n % 2), "label": "ab"[n % 2]}
        | {modality: rng.normal(size=width).astype(np.float32) for modality, width in WIDTHS.items()}
        for n in range(ITEMS)
    ]
    made_by = store.provenance("dataset", "toy", {}, "", task="classification", classes=["a", "b"], left_out={})
    dataset = pa.Table.from_pylist(rows, schema=store.schema("dataset", WIDTHS))
    store.write(folder / "dataset.parquet", dataset, "dataset", made_by)
    items = dataset.drop_columns(list(WIDTHS))
    for name in ("text", "source"):
        items = items.append_column(name, pa.nulls(ITEMS, pa.string()))
    for name in ("start_s", "end_s"):
        items = items.append_column(name, pa.nulls(ITEMS, pa.float64()))
    store.write(folder / "catalog.parquet", items.select(store.schema("catalog").names), "catalog", made_by)
    drawn = json.dumps({"seed": 0, "runs": 2, "protocols": ["paper"]})
    where = ("--dataset", folder / "dataset.parquet", "--catalog", folder / "catalog.parquet")
    assert run("splits", "toy", *where, "--settings", drawn, "--output", folder / "splits.parquet") == 0
    assert training(folder, "baselines", output="baselines") == 0
    for command, more in needs(folder).items():
        if command in ("stage1", "stage2", "stage3"):
            assert training(folder, command, *more, output=command) == 0
    return folder


def needs(folder):
    """Each stage's own options."""
    student = ("--teacher", BOTH, "--modality", "acoustic")
    return {
        "baselines": (),
        "distilled": ("--baselines", folder / "baselines"),
        "stage1": ("--teacher", BOTH),
        "stage2": (*student, "--stage1", folder / "stage1"),
        "stage3": (*student, "--own", folder / "stage1", folder / "stage2"),
        "stage4": (*student, "--stage3", folder / "stage3", "--variants", OURS),
    }


@pytest.mark.parametrize(
    "command, variant",
    [
        ("baselines", "unimodal"),
        ("distilled", "distilled"),
        ("stage1", "pretrained"),
        ("stage2", "pretrained"),
        ("stage3", "pretrained"),
        ("stage4", OURS),
    ],
)
def test_a_lost_loss_ends_the_command_and_leaves_no_checkpoint(folder, capsys, command, variant):
    before = set(folder.iterdir())
    assert training(folder, command, *needs(folder)[command], output="lost", learning_rate=LOST) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    stage = command.replace("baselines", "unimodal")
    assert re.match(rf"error: toy, \S+, variant {variant}, run \d, {stage}, epoch [12]: the loss is", error), error
    assert "lower learning_rate" in error
    assert set(folder.iterdir()) == before


def test_stage_4_asks_for_the_networks_that_runs_fall_back_on(folder, capsys):
    told = {"stage4": {**PAPER["stage4"], "fall_back": True}}
    assert training(folder, "stage4", *needs(folder)["stage4"], output="alone", **told) == 1
    assert "name its checkpoint with --baselines" in capsys.readouterr().err
    given = (*needs(folder)["stage4"], "--baselines", folder / "baselines")
    assert training(folder, "stage4", *given, output="alone", **told) == 0
    tensors = [checkpoint.read(folder / name)[0] for name in ("stage3", "baselines", "alone")]
    stage3, baselines, alone = tensors
    assert not stage3["pretrained/learned"].any()  # of noise there is nothing to learn in three epochs
    assert torch.equal(alone["ours/student.weight1"], baselines["acoustic/unimodal/encoder.weight1"])
