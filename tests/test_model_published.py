"""The networks on the authors' own features: the published collapse, and what standardised inputs give."""

import numpy as np
import pytest
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

pytestmark = pytest.mark.slow

BOTH = ("lexical", "acoustic")
STAGES = ("unimodal", "stage1", "stage2", "stage3", "stage4", "evaluate")


@pytest.fixture(scope="module")
def ted(shared):
    """TED as the authors published its features."""
    read = published.read("ted", {"judgenet": str(shared / "judgenet"), "metadata": None})
    ids = read.catalog.table["item_id"].to_pylist()
    features = {m: torch.from_numpy(np.stack([read.features[m][i] for i in ids]).astype(np.float32)) for m in BOTH}
    target = torch.tensor(read.catalog.table["target"].to_pylist()).long()
    return Corpus("ted", ids, np.array(ids), target, CLASSIFICATION, list(read.catalog.classes), features)


def trainer_of(corpus, runs, **paper):
    """A trainer under the paper's settings and protocol, with some of them changed."""
    splits = [
        Split(made.run, *(np.flatnonzero(made.part == part) for part in range(len(PARTS))))
        for made in paper_splits(len(corpus.item_ids), runs, 0)
    ]
    settings = of_stages(resolve({"paper": paper}, "ted", "paper"), STAGES, STUDENTS)
    return Trainer(Task(corpus, splits, settings, 0, torch.device("cpu")))


def score(trainer, variant, encoder):
    """Mean macro F1 over the runs' test items."""
    networks = (checkpoint.network(trainer.trained.tensors, variant, name) for name in (encoder, "head"))
    items, runs, values = predictions(trainer.task, ("lexical",), *networks)
    row_of = {item: row for row, item in enumerate(trainer.task.corpus.item_ids)}
    truth = trainer.task.corpus.target[[row_of[item] for item in items]].numpy()
    runs, values = np.array(runs), np.array(values)
    return np.mean([macro_f1(truth[runs == run], values[runs == run]) for run in set(runs)])


def test_the_unimodal_lexical_network_reaches_64_percent_on_standardised_features(ted):
    trainer = trainer_of(ted, runs=10)
    trainer.plain(("lexical",))
    assert score(trainer, "lexical/unimodal", "encoder") >= 0.64


def test_without_standardisation_the_published_collapse_comes_back(ted):
    """Raw acoustic values of 0..255 beside lexical ones of -1..1: the latent is the same for every talk."""
    trainer = trainer_of(ted, runs=3, normalize="none")
    trained = trainer.trained.tensors
    trainer.plain(("lexical",))
    trainer.stage1(BOTH)
    trainer.stage2(BOTH, "lexical", dict(trained))
    start = tuple(checkpoint.network(trained, "pretrained", network) for network in ("teacher", "student"))
    trainer.stage3(BOTH, "lexical", "pretrained", start)
    assert score(trainer, "pretrained", "student") < 0.40  # after stage 3
    for stage4 in ({}, {"imitation": 0.0}):  # as the settings stand, and equation 4 as it stands
        last = trainer_of(ted, runs=3, normalize="none", stage4=stage4)
        last.stage4(BOTH, "lexical", "ours", "pretrained", dict(trained))
        assert score(last, "ours", "student") < 0.40
    assert score(trainer, "lexical/unimodal", "encoder") > 0.60  # the lexical features alone were never at fault
