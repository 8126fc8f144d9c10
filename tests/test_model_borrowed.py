"""Tables 5 and 6: another corpus's pre-training is taken over where it fits; where it does not, a note says why."""

import numpy as np
import pytest
import torch

from model.data import Corpus, Split
from model.settings import PAPER, of_stages
from model.train import Block, Task, borrowed
from model.variants import STUDENTS

RUNS, ITEMS = 3, 20
WIDTHS = {"lexical": 4, "acoustic": 2}


def task(runs: int = RUNS, widths: dict[str, int] = WIDTHS, **settings) -> Task:
    rng = np.random.default_rng(0)
    features = {name: torch.from_numpy(rng.normal(size=(ITEMS, width))).float() for name, width in widths.items()}
    ids = [f"item{number}" for number in range(ITEMS)]
    own = Corpus("toy", ids, np.array(ids), torch.arange(ITEMS) % 2, "classification", ["no", "yes"], features)
    splits = [Split(run, np.arange(10), np.arange(10, 15), np.arange(15, 20)) for run in range(runs)]
    told = of_stages({**PAPER, "hidden": 8, "latent": 4, **settings}, ("stage3",), STUDENTS)
    return Task(own, splits, told, 0, torch.device("cpu"))


def networks(of: Task):
    """A teacher and a lexical student of this task, as stages 1 and 2 leave them."""
    block: Block = next(of.blocks(STUDENTS, "stage3.lexical"))
    return block.encoder(STUDENTS).state_dict(), block.encoder(("lexical",)).state_dict()


def test_run_r_begins_with_the_others_run_r_and_round_again():
    given = networks(task(runs=2))
    taken, note = borrowed(task(), STUDENTS, "lexical", given)
    assert note is None
    for mine, theirs in zip(taken, given, strict=True):
        for key, value in mine.items():
            assert torch.equal(value, theirs[key][[0, 1, 0]])


@pytest.mark.parametrize(
    ("theirs", "ours", "why"),
    [
        ({"widths": {"lexical": 5, "acoustic": 2}}, {}, "its teacher's weight1 is 7 x 8, here 6 x 8"),
        ({}, {"skip": True}, "its teacher has no skip_weight"),
        ({"skip": True}, {}, "its teacher has skip_weight beside what it has here"),
    ],
)
def test_what_does_not_fit_is_said(theirs, ours, why):
    taken, note = borrowed(task(**ours), STUDENTS, "lexical", networks(task(**theirs)))
    assert taken is None and note == why
