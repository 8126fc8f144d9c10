"""Numbers from predictions: macro F1 and R2. numpy alone; reads and writes nothing."""

import numpy as np


def macro_f1(target: np.ndarray, predicted: np.ndarray) -> float:
    """Macro F1 over the classes that occur in target or prediction, as scikit-learn counts it."""
    classes = int(max(target.max(), predicted.max())) + 1
    return float(f1_of_counts(confusion(target, predicted, classes)))


def confusion(target: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """(classes, classes): how many items of the class (row) were given the class (column)."""
    cells = target.astype(np.int64) * classes + predicted.astype(np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def f1_of_counts(counts: np.ndarray) -> np.ndarray:
    """Macro F1 of confusion matrices (..., classes, classes) -> (...)."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    both = counts.sum(-1) + counts.sum(-2)  # 2 TP + FP + FN
    occurs = both > 0
    scores = np.where(occurs, 2 * hits / np.maximum(both, 1), 0.0)
    return scores.sum(-1) / occurs.sum(-1)


def r2(target: np.ndarray, predicted: np.ndarray) -> float:
    """Share of the target's variance explained; 0 for a prediction of its mean, below 0 for a worse one."""
    target, predicted = target.astype(np.float64), predicted.astype(np.float64)
    spread = ((target - target.mean()) ** 2).sum()
    return float(1 - ((target - predicted) ** 2).sum() / spread) if spread > 0 else 0.0
