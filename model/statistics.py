"""How sure a table is of its numbers: intervals, paired permutation tests, correction for many comparisons.

Reads and writes nothing. numpy and scipy alone, so that tables can be made without torch.
"""

from collections.abc import Sequence

import numpy as np

from model.metrics import f1_of_counts

CONFIDENCE = 0.95
PERMUTATIONS = 20_000
EXACT_UP_TO = 14  # so many runs or fewer: all sign flips are counted, not drawn


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Student's 95 % interval of the mean over runs; NaN where a single run gives none."""
    from scipy import stats

    values = np.asarray(values, dtype=np.float64)
    if len(values) < 2:
        return float("nan"), float("nan")
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def sign_flip_p(differences: Sequence[float], seed: int = 0) -> float:
    """Two-sided p-value of paired differences (one a run) under random signs.

    Exact for few runs; else drawn, with the observed signs counted among the draws.
    """
    differences = np.asarray(differences, dtype=np.float64)
    count = len(differences)
    if count <= EXACT_UP_TO:
        signs = 1 - 2 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
    else:
        signs = np.random.default_rng(seed).choice([-1, 1], size=(PERMUTATIONS, count))
        signs[0] = 1
    means = np.abs(signs @ differences)
    rounding = 1e-12 * np.abs(differences).sum()
    return float((means >= np.abs(differences.sum()) - rounding).mean())


def swap_p_counts(first: np.ndarray, second: np.ndarray, seed: int = 0) -> float:
    """Two-sided p-value of the difference in macro F1 when groups' predictions change sides at random.

    `first`, `second`: confusion counts (groups, repeats, classes, classes) of two variants on the same items. A group
    (speaker) changes sides with all its items in all repeats, since they are not independent of each other. The
    statistic is the mean over repeats of the difference.
    """
    groups, repeats, classes, _ = first.shape
    change = (second - first).reshape(groups, -1).astype(np.float32)

    def statistic(swaps: np.ndarray) -> np.ndarray:
        moved = np.rint(swaps @ change).reshape(len(swaps), repeats, classes, classes)
        return (f1_of_counts(first.sum(0) + moved) - f1_of_counts(second.sum(0) - moved)).mean(-1)

    return _swap_p(statistic, groups, seed)


def swap_p_errors(first: np.ndarray, second: np.ndarray, seed: int = 0) -> float:
    """The same for R2: `first`, `second` are squared errors (groups, repeats).

    The target's own spread, which every R2 here is divided by, changes no p-value.
    """
    gain = (second - first).mean(1)  # of the first over the second, by group
    gain = gain / (np.abs(gain).sum() or 1.0)

    def statistic(swaps: np.ndarray) -> np.ndarray:
        return (1 - 2 * swaps) @ gain

    return _swap_p(statistic, len(gain), seed)


def _swap_p(statistic, groups: int, seed: int) -> float:
    rng = np.random.default_rng(seed)
    observed = abs(statistic(np.zeros((1, groups), dtype=np.float32))[0])
    as_large = 1
    left = PERMUTATIONS - 1
    while left:
        block = min(left, 1000)
        swaps = (rng.random((block, groups), dtype=np.float32) < 0.5).astype(np.float32)
        as_large += int((np.abs(statistic(swaps)) >= observed - 1e-12).sum())
        left -= block
    return as_large / PERMUTATIONS


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction for the number of comparisons; the order is kept."""
    p_values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p_values)
    corrected = np.empty(len(p_values))
    running = 0.0
    for rank, place in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = running
    return corrected.tolist()
