"""A corpus in memory, and the view of it that a stack of runs trains on.

Reads dataset.parquet and splits.parquet. A `Stack` holds, for its runs, the items' features standardised by each run's
training items, and hands out batches: each run has its own split and its own shuffling.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.items import complete_items, modalities_of
from model.networks import Noise
from model.seeds import seed_of
from pipeline import store
from pipeline.errors import UserError

CLASSIFICATION, REGRESSION = "classification", "regression"


@dataclass(frozen=True)
class Corpus:
    """The items of a corpus that have every modality: features (items, width), target (items,)."""

    name: str
    item_ids: list[str]
    groups: np.ndarray
    target: Tensor
    task: str
    classes: list[str] | None
    features: dict[str, Tensor]

    @property
    def outputs(self) -> int:
        """Width of a network's answer: the number of classes, or 1 for a value."""
        return len(self.classes) if self.task == CLASSIFICATION and self.classes else 1

    def width(self, modalities: Sequence[str]) -> int:
        """How many features these modalities have together."""
        return sum(self.features[modality].shape[1] for modality in modalities)


@dataclass(frozen=True)
class Split:
    """The items of one run, as row numbers of its corpus."""

    run: int
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


def read_corpus(path: str | Path, name: str) -> Corpus:
    """Read dataset.parquet; items that lack a modality are left out, so that all comparisons are between equals."""
    table = complete_items(store.read(path, "dataset"))
    provenance = store.read_provenance(path)
    if table.num_rows == 0:
        raise UserError(f"{path}: no item has all of {', '.join(modalities_of(table))}; see quality.parquet for why")
    features = {
        modality: torch.from_numpy(store.arrow_to_vectors(table[modality])) for modality in modalities_of(table)
    }
    target = torch.from_numpy(table["target"].to_numpy().copy())
    task = provenance["task"]
    return Corpus(
        name=name,
        item_ids=table["item_id"].to_pylist(),
        groups=np.asarray(table["group"].to_pylist()),
        target=target.long() if task == CLASSIFICATION else target.float(),
        task=task,
        classes=provenance["classes"],
        features=features,
    )


def read_splits(path: str | Path, protocol: str, item_ids: Sequence[str]) -> list[Split]:
    """The splits of a protocol, one a run, in the order of the runs."""
    import pyarrow.compute as pc

    table = store.read(path, "splits")
    table = table.filter(pc.equal(table["protocol"], protocol))
    row_of = {item_id: row for row, item_id in enumerate(item_ids)}
    try:
        rows = np.array([row_of[item_id] for item_id in table["item_id"].to_pylist()], dtype=np.int64)
    except KeyError as error:
        raise UserError(f"{path}: item {error.args[0]!r} is not in the dataset; make the splits again") from None
    runs = table["run"].to_numpy()
    parts = np.asarray(table["split"].to_pylist())
    if runs.size == 0:
        raise UserError(f"{path} holds no split of the protocol {protocol!r}")
    return [
        Split(run, *(np.sort(rows[(runs == run) & (parts == part)]) for part in ("train", "val", "test")))
        for run in range(int(runs.max()) + 1)
    ]


@dataclass(frozen=True)
class BatchPlan:
    """How many steps an epoch has, and how many rows a batch: the same for every run of a protocol.

    A run's training items are dealt evenly to the steps of an epoch, so that no step is left with a few; the batches of
    runs that have fewer items are padded with rows of weight zero.
    """

    steps: int
    rows: int

    @classmethod
    def of(cls, splits: Sequence[Split], batch_size: int) -> "BatchPlan":
        sizes = [len(split.train) for split in splits]
        steps = max(-(-size // batch_size) for size in sizes)
        return cls(steps, max(-(-size // steps) for size in sizes))


class Batch:
    """The items that each run of a stack sees in one step: row numbers (R, B) into the stack.

    `target` (R, B): class indices (long) or values (float).
    """

    def __init__(self, stack: "Stack", index: Tensor, target: Tensor):
        self._stack, self.index, self.target = stack, index, target
        self._rows: Tensor | None = None

    def features(self, modalities: tuple[str, ...], noise: Noise | None = None) -> Tensor:
        """The features of these modalities, prepared and concatenated: (R, B, widths); with `noise`, some dropped."""
        if self._rows is None:
            self._rows = _rows(self._stack.inputs, self.index)
        features = self._rows[..., self._stack.columns(modalities)]
        return features if noise is None else noise.inputs(modalities, features.shape[-1])(features)

    def frozen(self, name: str) -> Tensor:
        """What a frozen network made of these items, (R, B, width); see `Stack.freeze`."""
        return _rows(self._stack.frozen[name], self.index)


def _rows(table: Tensor, index: Tensor) -> Tensor:
    """Rows of (R * N, F) by (R, B) -> (R, B, F)."""
    return table.index_select(0, index.reshape(-1)).view(*index.shape, -1)


class Stack:
    """The runs of one training, side by side.

    `inputs` (R * N, F) holds every item's features, `target` (R, N) its target and `weights` (R, N) its weight in the
    loss, as each run sees them: prepared with the statistics of that run's training items.
    """

    def __init__(
        self,
        corpus: Corpus,
        splits: Sequence[Split],
        modalities: tuple[str, ...],
        settings: Mapping[str, Any],
        plan: BatchPlan,
        device: torch.device,
    ):
        self.corpus, self.splits, self.modalities = corpus, splits, modalities
        self.plan, self.device = plan, device
        self.items = len(corpus.item_ids)
        self.runs = [split.run for split in splits]
        self.frozen: dict[str, Tensor] = {}
        raw = {modality: corpus.features[modality].to(device) for modality in modalities}
        train = [torch.from_numpy(split.train).to(device) for split in splits]
        self.preparation = {
            modality: Preparation.of([rows[items] for items in train], settings, modality)
            for modality, rows in raw.items()
        }
        inputs = torch.empty(len(splits), self.items, sum(rows.shape[1] for rows in raw.values()), device=device)
        for modality, rows in raw.items():
            self.preparation[modality].into(inputs[..., self.columns((modality,))], rows)
        self.inputs = inputs.view(-1, inputs.shape[-1])
        target = corpus.target.to(device)
        self.unit = torch.ones(len(splits), device=device)
        self.zero = torch.zeros(len(splits), device=device)
        if settings["normalize_target"] and corpus.task == REGRESSION:
            self.zero, self.unit = (torch.stack(m) for m in zip(*(_moments(target[i]) for i in train), strict=True))
            self.target = (target - self.zero.unsqueeze(1)) / self.unit.unsqueeze(1)
        else:
            self.target = target.expand(len(splits), -1).contiguous()
        self.weights = torch.stack([self._item_weights(split, settings["balance"]) for split in splits]).to(device)

    def decide(self, answer: Tensor) -> Tensor:
        """From answers (R, B, outputs) to class indices, or to values in the corpus's own unit: (R, B)."""
        if self.corpus.task == CLASSIFICATION:
            return answer.argmax(-1)
        return answer.squeeze(-1) * self.unit.unsqueeze(1) + self.zero.unsqueeze(1)

    def columns(self, modalities: tuple[str, ...]) -> slice:
        """Where the features of `modalities`, which lie side by side, stand in `inputs`."""
        first = self.modalities.index(modalities[0])
        if self.modalities[first : first + len(modalities)] != modalities:
            raise ValueError(f"{modalities} do not lie side by side in {self.modalities}")
        start = self.corpus.width(self.modalities[:first])
        return slice(start, start + self.corpus.width(modalities))

    def keep(self, modalities: tuple[str, ...]) -> None:
        """Forget the features of all other modalities: no batch carries what a frozen network alone has seen."""
        self.inputs = self.inputs[:, self.columns(modalities)].contiguous()
        self.modalities = modalities

    def freeze(self, name: str, values: Tensor) -> None:
        """Keep what a frozen network makes of every item, (R, N, width), for `Batch.frozen`."""
        self.frozen[name] = values.reshape(-1, values.shape[-1])

    def everything(self, at_once: int = 256) -> Iterator[Batch]:
        """All items of the corpus in their order, for every run, some at a time."""
        for rows in torch.arange(self.items, device=self.device).split(at_once):
            yield self._batch(self._offsets() + rows)

    def epochs(self, seed: int, purpose: str) -> Iterator["Epoch"]:
        """Epochs without end."""
        runs, steps, rows = len(self.splits), self.plan.steps, self.plan.rows
        generators = [np.random.default_rng(seed_of(seed, run, f"shuffle {purpose}")) for run in self.runs]
        place = np.zeros((runs, steps, rows), dtype=np.int64)
        share = np.zeros((runs, steps, rows), dtype=np.float32)
        for number, split in enumerate(self.splits):
            edges = np.linspace(0, len(split.train), steps + 1).round().astype(int)
            for step, (start, end) in enumerate(pairwise(edges)):
                place[number, step, : end - start] = np.arange(start, end)
                share[number, step, : end - start] = 1 / (end - start)
        place = place.reshape(runs, -1)
        shares = torch.from_numpy(share).to(self.device).transpose(0, 1)  # (steps, R, B)
        while True:
            order = np.stack(
                [
                    generator.permutation(split.train)[at]
                    for generator, split, at in zip(generators, self.splits, place, strict=True)
                ]
            )
            index = torch.from_numpy(order).to(self.device).view(runs, steps, rows).transpose(0, 1) + self._offsets()
            index = index.contiguous()
            targets, weights = self.target.view(-1)[index], shares * self.weights.view(-1)[index]
            yield Epoch(self, index, targets, weights.contiguous())

    def part(self, name: str) -> tuple[Batch, Tensor]:
        """All of the runs' items of a part (train, val, test), padded with weight zero; weights of a run sum to 1."""
        parts = [getattr(split, name) for split in self.splits]
        rows = max(len(part) for part in parts)
        index = np.zeros((len(parts), rows), dtype=np.int64)
        weight = np.zeros((len(parts), rows), dtype=np.float32)
        for number, part in enumerate(parts):
            index[number, : len(part)] = part
            weight[number, : len(part)] = 1 / max(1, len(part))
        batch = self._batch(torch.from_numpy(index).to(self.device) + self._offsets())
        return batch, torch.from_numpy(weight).to(self.device)

    def _batch(self, index: Tensor) -> Batch:
        return Batch(self, index, self.target.view(-1)[index])

    def _offsets(self) -> Tensor:
        """Where each run's items begin in `inputs`, (R, 1)."""
        return torch.arange(len(self.splits), device=self.device).unsqueeze(1) * self.items

    def _item_weights(self, split: Split, balance: bool) -> Tensor:
        """The weight of each item's loss, (N,): 1, or so that a run's training items of every class weigh alike."""
        weights = torch.ones(self.items)
        if balance and self.corpus.task == CLASSIFICATION:
            target = self.corpus.target
            counts = torch.bincount(target[split.train], minlength=self.corpus.outputs).float()
            present = (counts > 0).sum()
            weights = (len(split.train) / (present * counts.clamp_min(1)))[target]
        return weights


@dataclass(frozen=True)
class Epoch:
    """The steps of an epoch: rows of the stack's tables, targets, and weights of the items' losses, each (S, R, B).

    The weights of a run sum to 1 in every step.
    """

    stack: Stack
    index: Tensor
    target: Tensor
    weight: Tensor

    def __iter__(self) -> Iterator[tuple[Batch, Tensor]]:
        """Each step's batch, and its weights (R, B)."""
        for index, target, weight in zip(self.index, self.target, self.weight, strict=True):
            yield Batch(self.stack, index, target), weight


@dataclass(frozen=True)
class Preparation:
    """How the features of one modality are prepared, for each run: (x - mean) / scale, then perhaps whitened.

    mean, scale: (R, 1, F); rotation: (R, F, F) or None.
    """

    mean: Tensor
    scale: Tensor
    rotation: Tensor | None

    @classmethod
    def of(cls, training: Sequence[Tensor], settings: Mapping[str, Any], modality: str) -> "Preparation":
        """From each run's training items (items, F).

        `normalize: standard` gives every feature mean 0 and deviation 1, `none` leaves it. `whiten: {modality: rho}`
        then shrinks the directions in which the features vary together: by ((l + rho) / (1 + rho))^-1/2 along each
        principal direction of variance l.
        """
        width = training[0].shape[1]
        mean = training[0].new_zeros(len(training), 1, width)
        scale = torch.ones_like(mean)
        if settings["normalize"] == "standard":
            moments = [_moments(rows) for rows in training]
            mean = torch.stack([mean for mean, _ in moments]).unsqueeze(1)
            scale = torch.stack([scale for _, scale in moments]).unsqueeze(1)
        rho = settings["whiten"].get(modality)
        if rho is None:
            return cls(mean, scale, None)
        standard = [(rows - mean[run]) / scale[run] for run, rows in enumerate(training)]
        return cls(mean, scale, torch.stack([_whitening(rows, rho) for rows in standard]))

    def __call__(self, rows: Tensor) -> Tensor:
        """(N, F), the same items for every run, to (R, N, F)."""
        return self.into(rows.new_empty(len(self.mean), *rows.shape), rows)

    def into(self, place: Tensor, rows: Tensor) -> Tensor:
        """The same, written to `place` (R, N, F), a run at a time: no copy of all runs' features is made on the way."""
        for run, own in enumerate(place):
            torch.sub(rows, self.mean[run], out=own).div_(self.scale[run])
            if self.rotation is not None:
                own.copy_(own @ self.rotation[run])
        return place


def _moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation over items (items, ...); what never changes gets deviation 1."""
    wide = rows.double()
    mean = wide.mean(0)
    deviation = (wide - mean).square_().mean(0).sqrt_()
    deviation = torch.where(deviation > 1e-8, deviation, torch.ones_like(deviation))
    return mean.float(), deviation.float()


def _whitening(rows: Tensor, rho: float) -> Tensor:
    """The rotation (F, F) that whitens standardised rows (items, F), softened by `rho`."""
    wide = rows.double()
    variance, directions = torch.linalg.eigh(wide.T @ wide / len(wide))
    return (directions * ((variance.clamp_min(0) + rho) / (1 + rho)).rsqrt()).float()
