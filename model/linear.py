"""The baselines that the paper leaves out: linear models of scikit-learn, and the majority (or the mean).

Reads a dataset and its splits; gives a prediction for every test item of every run, on the same splits as the networks.
"""

from collections.abc import Sequence

import numpy as np

from model import variants

LOGISTIC_C = (1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0)  # inverse strength, strongest regularisation first
RIDGE_ALPHA = (1e4, 3e3, 1e3, 300.0, 100.0, 30.0, 10.0, 1.0)
NARROW = 300  # features

Predictions = tuple[list[str], list[int], list[float]]


def linear(
    features: np.ndarray, target: np.ndarray, classification: bool, splits: Sequence, item_ids: list[str], balance: bool
) -> Predictions:
    """Standardised logistic (macro F1 tasks) or ridge regression for each run.

    The strength of the regularisation is the one with the least loss on the run's validation items (log loss, squared
    error); the model itself is fitted to the training items alone.
    """
    return _for_each_run(
        splits,
        item_ids,
        lambda split: _fit_linear(features, target, classification, split, balance)(features[split.test]),
    )


def majority(target: np.ndarray, classification: bool, splits: Sequence, item_ids: list[str]) -> Predictions:
    """The most frequent class of the run's training items, or their mean."""

    def predict(split) -> np.ndarray:
        seen = target[split.train]
        answer = np.bincount(seen.astype(np.int64)).argmax() if classification else seen.mean()
        return np.full(len(split.test), answer, dtype=np.float64)

    return _for_each_run(splits, item_ids, predict)


def rows(corpus, splits: Sequence, balance: bool) -> dict[tuple[str, str, str], Predictions]:
    """All rows of these baselines, keyed (modality, variant, teacher) as in `model.evaluate`."""
    modalities = tuple(corpus.features)
    everything = "-".join(modalities)
    arrays = {modality: tensor.numpy() for modality, tensor in corpus.features.items()}
    target = corpus.target.numpy().astype(np.float64)
    classification = corpus.classes is not None
    shared = (target, classification, splits, corpus.item_ids)
    found = {(everything, variants.MAJORITY, everything): majority(*shared)}
    for modality in variants.STUDENTS:
        if modality in arrays:
            found[modality, variants.LINEAR, everything] = linear(arrays[modality], *shared, balance)
    if len(modalities) > 1:
        joined = np.hstack([arrays[modality] for modality in modalities])
        found[everything, variants.LINEAR_MULTIMODAL, everything] = linear(joined, *shared, balance)
    return found


def _for_each_run(splits: Sequence, item_ids: list[str], predict) -> Predictions:
    ids: list[str] = []
    runs: list[int] = []
    values: list[float] = []
    for split in splits:
        ids += [item_ids[row] for row in split.test]
        runs += [split.run] * len(split.test)
        values += np.asarray(predict(split), dtype=np.float64).tolist()
    return ids, runs, values


def _fit_linear(features: np.ndarray, target: np.ndarray, classification: bool, split, balance: bool):
    from sklearn.metrics import log_loss, mean_squared_error
    from sklearn.preprocessing import StandardScaler

    seen, classes = np.unique(target[split.train]), np.unique(target)
    if classification and len(seen) == 1:
        return lambda rows: np.full(len(rows), seen[0])
    scaler = StandardScaler().fit(features[split.train])
    train, val = scaler.transform(features[split.train]), scaler.transform(features[split.val])
    losses: list[float] = []
    models = []
    for strength in LOGISTIC_C if classification else RIDGE_ALPHA:
        model = _model(strength, classification, features.shape[1], balance).fit(train, target[split.train])
        if classification:
            losses.append(log_loss(target[split.val], _probabilities(model, val, classes), labels=classes))
        else:
            losses.append(mean_squared_error(target[split.val], model.predict(val)))
        models.append(model)
        if len(losses) > 2 and losses[-1] > losses[-2] > losses[-3]:
            break  # weaker regularisation only overfits more, and takes longer to fit
    best = models[int(np.argmin(losses))]
    return lambda rows: best.predict(scaler.transform(rows))


def _probabilities(model, rows: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The probability of every class (items, classes): 0 for one that was not in training."""
    known = model.predict_proba(rows)
    found = np.zeros((len(rows), len(classes)), known.dtype)
    found[:, np.searchsorted(classes, model.classes_)] = known
    return found


def _model(strength: float, classification: bool, width: int, balance: bool):
    from sklearn.linear_model import LogisticRegression, Ridge

    if not classification:
        return Ridge(strength)
    solver = "newton-cholesky" if width <= NARROW else "lbfgs"  # the same minimum, by the faster road
    return LogisticRegression(C=strength, solver=solver, max_iter=1000, class_weight="balanced" if balance else None)
