"""Which runs fall back on the unimodal network: those whose teacher has learned nothing.

Reads and writes nothing. A teacher that answers alike whatever it sees (dropout of .75, raw values of 0..255) has a
latent that tells items apart no better, and a student held near it can learn nothing either. Stage 3 asks of each run's
teacher whether it is one; where `fall_back` is set, stage 4 leaves such a run the student that was trained alone. No
test item has a part in it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.data import CLASSIFICATION, Corpus, Stack
from model.stages import task_loss

SIGNIFICANT = 0.05  # a gain's p-value below which a teacher has learned something
LEARNED = "learned"  # how stage 3's tensor of the verdicts is called


def has_learned(answer: Tensor, stack: Stack) -> Tensor:
    """Whether each run's answers to all items, (R, N, outputs), are better than the best constant: (R,) of booleans.

    Better: the task's loss l(y, y') over the run's training and validation items, weighed as in training, is less than
    that of the classes' shares (or of the median), significantly so (Student's t over items, one-sided, 5 %).
    """
    from scipy.special import stdtr

    loss = task_loss(answer, stack.target).cpu()
    targets, weights = stack.target.cpu(), stack.weights.cpu()
    verdicts = []
    for run, split in enumerate(stack.splits):
        seen = torch.from_numpy(np.concatenate([split.train, split.val]))
        target, weight = targets[run, seen], weights[run, seen]
        constant = _best_constant(target, weight, stack.corpus).expand(1, len(seen), -1)
        gain = ((task_loss(constant, target.unsqueeze(0))[0] - loss[run, seen]) * weight).double()
        error = float(gain.std()) / len(gain) ** 0.5
        verdicts.append(error > 0 and stdtr(len(gain) - 1, -float(gain.mean()) / error) < SIGNIFICANT)
    return torch.tensor(verdicts)


def _best_constant(target: Tensor, weight: Tensor, corpus: Corpus) -> Tensor:
    """The answer (outputs,) with the least loss where one answer has to do for all items."""
    if corpus.task == CLASSIFICATION:
        return torch.bincount(target, weight, minlength=corpus.outputs).clamp_min(1e-6).log()
    return target.median().reshape(1)


def falling_back(stage3: Mapping[str, Tensor], start: str, stage4: Mapping[str, Any]) -> list[int]:
    """The runs that fall back, by the tensors that stage 3 left of `start` and what stage 4 is told."""
    return (~stage3[f"{start}/{LEARNED}"]).nonzero()[:, 0].tolist() if stage4["fall_back"] else []
