"""What a changed setting runs again, as Snakemake itself says; and the collapse that the published code shows."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
CONFIG = {
    "corpora": {"ted": {"published": True}, "mit": {"published": True}},
    "training": {"settings": ["paper"], "protocols": ["paper", "grouped"]},
    "experiments": {"tables": [1, 2, 3, 4]},
}


def snakemake(config, folder, *options):
    """Run Snakemake on the project with a config of the test's own, results in `folder`."""
    path = folder / "config.yaml"
    path.write_text(
        yaml.safe_dump({**config, "results": str(folder / "results"), "judgenet": str(folder / "judgenet")})
    )
    command = [sys.executable, "-m", "snakemake", "tables", "--cores", "1", "--directory", str(folder)]
    done = subprocess.run(
        [*command, "--snakefile", str(ROOT / "Snakefile"), "--configfile", str(path), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def planned(text):
    """How often each rule would run, from a dry run's statistics."""
    return {
        rule: int(count)
        for rule, count in re.findall(r"^(\w+) +(\d+)$", text, re.MULTILINE)
        if rule not in ("total", "tables")
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory, shared):
    """A folder that looks to Snakemake as if everything had been made: its records are real, the files are empty."""
    folder = tmp_path_factory.mktemp("workflow")
    (folder / "judgenet").symlink_to(shared / "judgenet")
    for line in snakemake(CONFIG, folder, "--summary").splitlines():
        if line.startswith(str(folder)):
            path = Path(line.split("\t")[0])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    snakemake(CONFIG, folder, "--touch", "--forceall")
    assert planned(snakemake(CONFIG, folder, "--dry-run")) == {}
    return folder


def changed(**training):
    return {**CONFIG, "training": {**CONFIG["training"], **training}}


@pytest.mark.parametrize(
    "training, rules",
    [
        # Two corpora, two protocols, two students: eight trainings of stage 4, four evaluations.
        ({"paper": {"stage4": {"alpha": 0.5}}}, {"stage4": 8, "evaluate": 4, "result_tables": 1}),
        (
            {"corpora": {"mit": {"paper": {"stage4": {"alpha": 0.5}}}}},
            {"stage4": 4, "evaluate": 2, "result_tables": 1},
        ),
        ({"paper": {"stage3": {"alpha": 0.5}}}, {"stage3": 8, "stage4": 8, "evaluate": 4, "result_tables": 1}),
        ({"paper": {"distilled": {"temperature": 3}}}, {"distilled": 4, "evaluate": 4, "result_tables": 1}),
        ({"paper": {"unimodal": {"epochs": 3}}}, {"baselines": 4, "distilled": 4, "evaluate": 4, "result_tables": 1}),
    ],
)
def test_a_changed_setting_runs_the_stages_that_see_it_and_what_follows(finished, training, rules):
    assert planned(snakemake(changed(**training), finished, "--dry-run")) == rules


def test_without_standardisation_the_published_collapse_comes_back(shared):
    """Raw acoustic values of 0..255 beside lexical ones of -1..1: the latent is the same for every talk."""
    import numpy as np
    import torch

    from model import checkpoint
    from model.data import CLASSIFICATION, Corpus, Split
    from model.evaluate import predictions
    from model.metrics import macro_f1
    from model.settings import of_stages, resolve
    from model.splits import PARTS, paper_splits
    from model.train import Task, Trainer
    from model.variants import STUDENTS
    from pipeline.corpora import published

    both = ("lexical", "acoustic")
    read = published.read("ted", {"judgenet": str(shared / "judgenet"), "metadata": None})
    ids = read.catalog.table["item_id"].to_pylist()
    features = {m: torch.from_numpy(np.stack([read.features[m][i] for i in ids]).astype(np.float32)) for m in both}
    target = torch.tensor(read.catalog.table["target"].to_pylist()).long()
    corpus = Corpus("ted", ids, np.array(ids), target, CLASSIFICATION, ["low", "high"], features)
    splits = [
        Split(made.run, *(np.flatnonzero(made.part == part) for part in range(len(PARTS))))
        for made in paper_splits(len(ids), 3, 0)
    ]
    stages = ("unimodal", "stage1", "stage2", "stage3", "stage4", "evaluate")
    settings = of_stages(resolve({"paper": {"normalize": "none"}}, "ted", "paper"), stages, STUDENTS)
    task = Task(corpus, splits, settings, 0, torch.device("cpu"))
    trainer = Trainer(task)
    trained = trainer.trained.tensors
    trainer.plain(("lexical",))
    trainer.stage1(both)
    trainer.stage2(both, "lexical", dict(trained))
    start = tuple(checkpoint.network(trained, "pretrained", network) for network in ("teacher", "student"))
    trainer.stage3(both, "lexical", "pretrained", start)
    trainer.stage4(both, "lexical", "ours", "pretrained", dict(trained))

    def score(variant, encoder):
        networks = (checkpoint.network(trained, variant, name) for name in (encoder, "head"))
        items, runs, values = predictions(task, ("lexical",), *networks)
        truth = np.array([target[ids.index(item)] for item in items])
        runs, values = np.array(runs), np.array(values)
        return np.mean([macro_f1(truth[runs == run], values[runs == run]) for run in range(3)])

    assert score("pretrained", "student") < 0.40  # after stage 3
    assert score("ours", "student") < 0.40  # after stage 4
    assert score("lexical/unimodal", "encoder") > 0.60  # the lexical features alone were never at fault
