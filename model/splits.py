"""Who trains, who validates, who tests: made once per corpus, shared by all variants, so that comparisons are paired.

Reads dataset.parquet and catalog.parquet, writes splits.parquet (item_id, protocol, run, split). Two protocols:

- `paper`: every run has its own random 80/10/10 split of the items.
- `grouped`: repeated cross-validation in which no group (speaker, participant) is on both sides; run = repeat * folds +
  fold, and each item is tested once in a repeat. The folds are made of whole groups; where the catalog has a column
  `session`, a fold is a session (IEMOCAP's leave-one-session-out). The validation part is made of whole groups too.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from model.seeds import seed_of
from pipeline.errors import UserError

PARTS = ("train", "val", "test")
HELD_OUT = 0.1  # the share of the items in the validation part, and in the test part of the paper protocol


@dataclass(frozen=True)
class Assignment:
    """One run's split: the part (index into PARTS) of every item."""

    protocol: str
    run: int
    part: np.ndarray


def paper_splits(items: int, runs: int, seed: int) -> Iterator[Assignment]:
    """Random 80/10/10 by item, anew for each run."""
    held_out = max(1, round(items * HELD_OUT))
    if items < 3 * held_out:
        raise UserError(f"{items} items are too few to train, validate and test on")
    for run in range(runs):
        order = np.random.default_rng(seed_of(seed, run, "paper split")).permutation(items)
        part = np.zeros(items, dtype=np.int8)
        part[order[:held_out]] = PARTS.index("test")
        part[order[held_out : 2 * held_out]] = PARTS.index("val")
        yield Assignment("paper", run, part)


def grouped_splits(
    groups: Sequence[str], folds: int, repeats: int, seed: int, sessions: Sequence[str] | None = None
) -> Iterator[Assignment]:
    """Repeated cross-validation by group; with `sessions` (one an item), each session is a fold."""
    names, group_of = np.unique(np.asarray(groups), return_inverse=True)
    sizes = np.bincount(group_of)
    if len(names) < 3:
        raise UserError(f"{len(names)} groups are too few for the grouped protocol, which needs 3 (train, val, test)")
    fixed = None if sessions is None else _fold_of_session(names, group_of, sessions)
    if fixed is not None:
        folds = int(fixed.max()) + 1
    if not 2 <= folds <= len(names):
        raise UserError(f"training.folds is {folds}, and there are {len(names)} groups: give 2 to {len(names)}")
    for repeat in range(repeats):
        rng = np.random.default_rng(seed_of(seed, repeat, "folds"))
        fold_of = deal(sizes, folds, rng) if fixed is None else fixed
        for fold in range(folds):
            run = repeat * folds + fold
            inside = np.flatnonzero(fold_of != fold)
            rng = np.random.default_rng(seed_of(seed, run, "validation groups"))
            part_of_group = np.full(len(names), PARTS.index("test"), dtype=np.int8)
            part_of_group[inside] = PARTS.index("train")
            part_of_group[_some_groups(rng.permutation(inside), sizes)] = PARTS.index("val")
            yield Assignment("grouped", run, part_of_group[group_of])


def deal(sizes: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """A fold for every group: the largest first, each to the fold with the fewest items; equals in random order.

    No fold takes so many groups that fewer than two are left outside it, for training and for validation.
    """
    most = max(1, len(sizes) - 2)
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    fold_of = np.empty(len(sizes), dtype=np.int64)
    held = np.zeros(folds, dtype=np.int64)
    count = np.zeros(folds, dtype=np.int64)
    for group in order:
        fold = np.where(count < most, held, np.iinfo(np.int64).max).argmin()
        fold_of[group] = fold
        held[fold] += sizes[group]
        count[fold] += 1
    return fold_of


def folds_of(assignments: Iterable[Assignment]) -> int:
    """How many runs make a repeat of the grouped protocol: as many as it takes to test every item once."""
    tested = None
    for count, assignment in enumerate(assignments, start=1):
        test = assignment.part == PARTS.index("test")
        tested = test if tested is None else tested | test
        if tested.all():
            return count
    raise ValueError("some item is never tested")


def check(assignments: Sequence[Assignment], groups: Sequence[str]) -> None:
    """Assert what every comparison rests on: no group on two sides, each item tested once in a repeat."""
    _, group_of = np.unique(np.asarray(groups), return_inverse=True)
    grouped = [assignment for assignment in assignments if assignment.protocol == "grouped"]
    for assignment in assignments:
        assert all((assignment.part == part).any() for part in range(3)), f"run {assignment.run} lacks a part"
    for assignment in grouped:
        for part in range(3):
            inside = assignment.part == part
            assert not np.isin(group_of[inside], group_of[~inside]).any(), f"run {assignment.run} splits a group"
    if grouped:
        folds = folds_of(grouped)
        for start in range(0, len(grouped), folds):
            tested = sum((a.part == PARTS.index("test")).astype(int) for a in grouped[start : start + folds])
            assert (tested == 1).all(), f"the repeat from run {start} does not test every item once"


def _fold_of_session(names: np.ndarray, group_of: np.ndarray, sessions: Sequence[str]) -> np.ndarray:
    """The fold (its session's number) of every group."""
    labels, session_of = np.unique(np.asarray(sessions, dtype=str), return_inverse=True)
    if len(labels) < 2:
        raise UserError(f"the catalog's column session holds only '{labels[0]}': leaving it out leaves nothing")
    fold_of = np.full(len(names), -1, dtype=np.int64)
    for group, session in zip(group_of, session_of, strict=True):
        if fold_of[group] not in (-1, session):
            raise UserError(
                f"group '{names[group]}' is in the sessions '{labels[fold_of[group]]}' and '{labels[session]}': "
                "leave the column session out of the catalog, or give the group two names"
            )
        fold_of[group] = session
    return fold_of


def _some_groups(order: np.ndarray, sizes: np.ndarray) -> list[int]:
    """Groups, taken in `order`, that hold about the validation share of the items; at least one, never all.

    A group so large that none at all is nearer to that share is passed over.
    """
    wanted = sizes.sum() * HELD_OUT
    chosen: list[int] = []
    held = 0
    for group in order[:-1]:
        if abs(held + sizes[group] - wanted) < abs(held - wanted):
            chosen.append(group)
            held += sizes[group]
    return chosen or [min(order, key=lambda group: sizes[group])]


def sessions_of(item_ids: Sequence[str], catalog: Mapping[str, Sequence[str | None]]) -> list[str] | None:
    """The session of each item where the catalog (columns by name) has that column, else None."""
    if "session" not in catalog:
        return None
    session_of = dict(zip(catalog["item_id"], catalog["session"], strict=True))
    missing = [item_id for item_id in item_ids if session_of.get(item_id) is None]
    if missing:
        raise UserError(f"the catalog names no session for item {missing[0]!r}: fill the column, or leave it out")
    return [str(session_of[item_id]) for item_id in item_ids]
