"""The training of each stage and baseline: from checkpoints of the stages before to a checkpoint.

Reads a dataset, its splits and earlier checkpoints; returns tensors and learning curves, which `model.__main__` writes.
All runs of a protocol are trained as one stack; in blocks, where they would not fit, or where several CPU threads are
to share the work: the networks are too small for threads to share a single product.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from model import checkpoint, variants
from model.curves import Label, Point
from model.data import Batch, BatchPlan, Corpus, Split, Stack
from model.fallback import LEARNED, falling_back, has_learned
from model.networks import StackedMLP
from model.seeds import seed_of
from model.settings import STAGES
from model.stages import Distillation, FineTuning, Joint, Landing, Plain, Reconstruction, Stage
from pipeline.errors import UserError

INPUTS_AT_ONCE = 128 << 20  # standardised features in a block of runs, in numbers (4 bytes each)
RUNS_AT_ONCE = 64


@dataclass
class Trained:
    """What a training leaves behind: tensors (runs, ...) by name, and learning curves."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    curves: list[tuple[Label, Point]] = field(default_factory=list)


@dataclass(frozen=True)
class Task:
    """What all trainings of a command share.

    `settings`: of each stage that is trained here. `choice`: what tuning chose, for each student a mapping from the run
    to the settings that it overrides; under the name of a stage, those of that stage alone.
    """

    corpus: Corpus
    splits: Sequence[Split]
    settings: Mapping[str, Mapping[str, Any]]
    seed: int
    device: torch.device
    choice: Mapping[str, Mapping[int, Mapping[str, Any]]] = field(default_factory=dict)

    def blocks(self, modalities: tuple[str, ...], stage: str) -> Iterator["Block"]:
        """The runs in blocks that fit into memory and have the same settings."""
        return (make() for make in self.makers(modalities, stage, workers=1))

    def makers(
        self, modalities: tuple[str, ...], stage: str, workers: int, without: Collection[int] = ()
    ) -> Iterator[Callable[[], "Block"]]:
        """What makes each of the blocks, so that `workers` of them may be made and trained at a time.

        The runs `without` are in none of them.
        """
        alike: dict[str, list[Split]] = {}
        for split in self.splits:
            if split.run not in without:
                alike.setdefault(json.dumps(self._told(stage, split.run), sort_keys=True), []).append(split)
        numbers = self.corpus.width(modalities) * len(self.corpus.item_ids)
        at_once = max(1, min(RUNS_AT_ONCE, INPUTS_AT_ONCE // workers // numbers))
        for text, splits in alike.items():
            settings = json.loads(text)
            plan = BatchPlan.of(self.splits, settings["batch_size"])
            size = min(at_once, -(-len(splits) // workers))
            for start in range(0, len(splits), size):
                yield partial(self._block, splits[start : start + size], modalities, settings, plan)

    def _told(self, stage: str, run: int) -> dict[str, Any]:
        """A run's settings: the stage's, then what was chosen for every network of the student, then for this stage."""
        name, _, student = stage.partition(".")
        told, chosen = self.settings[stage], self.choice.get(student, {}).get(run, {})
        left_alone = {*told.get("pinned", ()), *STAGES}
        return {
            **told,
            **{key: value for key, value in chosen.items() if key not in left_alone},
            **chosen.get(name, {}),
        }

    def _block(
        self, splits: Sequence[Split], modalities: tuple[str, ...], settings: Mapping[str, Any], plan: BatchPlan
    ) -> "Block":
        return Block(Stack(self.corpus, splits, modalities, settings, plan, self.device), settings, self.seed)


@dataclass(frozen=True)
class Block:
    """Runs that are trained together, and how their networks are made."""

    stack: Stack
    settings: Mapping[str, Any]
    seed: int

    def encoder(self, modalities: tuple[str, ...], weights: Mapping[str, Tensor] | None = None) -> StackedMLP:
        """A fresh encoder of these modalities, or one with the given weights (all runs of the protocol)."""
        inputs = self.stack.corpus.width(modalities)
        return self._network("encoder " + teacher_name(modalities), inputs, self.settings["latent"], weights)

    def decoder(self, modalities: tuple[str, ...]) -> StackedMLP:
        return self._network("decoder", self.settings["latent"], self.stack.corpus.width(modalities), None)

    def head(self, weights: Mapping[str, Tensor] | None = None) -> StackedMLP:
        return self._network("head", self.settings["latent"], self.stack.corpus.outputs, weights)

    def _network(self, role: str, inputs: int, outputs: int, weights: Mapping[str, Tensor] | None) -> StackedMLP:
        seeds = [seed_of(self.seed, run, role) for run in self.stack.runs]
        silent = self.settings["silent_head"] and role == "head"
        network = StackedMLP(seeds, inputs, self.settings["hidden"], outputs, self.settings["skip"], silent)
        if weights is not None:
            network.load_state_dict({name: value[self.stack.runs] for name, value in weights.items()})
        return network.to(self.stack.device)


def teacher_name(modalities: Sequence[str]) -> str:
    """How a teacher is called in file names."""
    return "-".join(modalities)


def trained_name(variant: str, start: str) -> str:
    """A variant's name in a checkpoint: `ours`, or `ours_other_pretrain.ted` where another corpus lent the start."""
    return variant + start.removeprefix(variants.STARTS[variant])


def start_of(variant: str, name: str) -> str:
    """What a variant began with that is called `name` in a checkpoint: the other way round."""
    return variants.STARTS[variant] + name.removeprefix(variant)


class Trainer:
    """Trains stages for one corpus, protocol and settings, and gathers what they leave."""

    def __init__(self, task: Task):
        self.task = task
        self.trained = Trained()

    def plain(self, modalities: tuple[str, ...]) -> None:
        """The unimodal or the multimodal baseline."""
        variant = variants.UNIMODAL if len(modalities) == 1 else variants.MULTIMODAL
        label = self._label(teacher_name(modalities), variant, variant)
        section = f"{variant}.{modalities[0]}" if len(modalities) == 1 else variant

        def stage(block: Block) -> Stage:
            return Plain(block.encoder(modalities), block.head(), modalities)

        self._train(label, f"{teacher_name(modalities)}/{variant}", modalities, section, stage)

    def distilled(self, modality: str, baselines: Mapping[str, Tensor]) -> None:
        """Knowledge distillation from the multimodal baseline, equations 5 and 6."""
        modalities = tuple(self.task.corpus.features)
        teacher = f"{teacher_name(modalities)}/{variants.MULTIMODAL}"

        def stage(block: Block) -> Stage:
            frozen = block.encoder(modalities, checkpoint.network(baselines, teacher, "encoder"))
            head = block.head(checkpoint.network(baselines, teacher, "head"))
            freeze(block.stack, "answer", lambda x: head(frozen(x.features(modalities))))
            block.stack.keep((modality,))
            own = block.settings
            return Distillation(block.encoder((modality,)), block.head(), modality, own["alpha"], own["temperature"])

        label = self._label(modality, variants.DISTILLED, "distilled")
        self._train(label, f"{modality}/{variants.DISTILLED}", modalities, f"distilled.{modality}", stage)

    def stage1(self, teacher: tuple[str, ...]) -> None:
        """Equation 1."""

        def stage(block: Block) -> Stage:
            return Reconstruction(block.encoder(teacher), block.decoder(teacher), teacher)

        label = self._label(teacher_name(teacher), "pretrained", "stage1")
        self._train(label, "pretrained", teacher, "stage1", stage)

    def stage2(self, teacher: tuple[str, ...], modality: str, stage1: Mapping[str, Tensor]) -> None:
        """Equation 2."""

        def stage(block: Block) -> Stage:
            frozen = block.encoder(teacher, checkpoint.network(stage1, "pretrained", "teacher"))
            freeze(block.stack, "latent", lambda x: frozen(x.features(teacher)))
            block.stack.keep((modality,))
            return Landing(block.encoder((modality,)), modality)

        label = self._label(modality, "pretrained", "stage2")
        self._train(label, "pretrained", teacher, f"stage2.{modality}", stage)

    def stage3(
        self,
        teacher: tuple[str, ...],
        modality: str,
        start: str,
        weights: tuple[Mapping[str, Tensor], Mapping[str, Tensor]] | None,
    ) -> None:
        """Equation 3; `weights` of teacher and student to begin with, or none."""
        of_teacher, of_student = weights or (None, None)

        def stage(block: Block) -> Stage:
            own = block.settings
            return Joint(
                block.encoder(teacher, of_teacher),
                block.head(),
                block.encoder((modality,), of_student),
                teacher,
                modality,
                own["alpha"],
                own["weighting"],
                own["relative_latent"],
            )

        def verdicts(block: Block, made: Joint) -> dict[str, Tensor]:
            answers = of_all_items(block.stack, lambda x: made.head(made.teacher(x.features(teacher))))
            return {LEARNED: has_learned(answers, block.stack)}

        self._train(self._label(modality, start, "stage3"), start, teacher, f"stage3.{modality}", stage, verdicts)

    def stage4(
        self,
        teacher: tuple[str, ...],
        modality: str,
        variant: str,
        start: str,
        stage3: Mapping[str, Tensor],
        baselines: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Equation 4 for one variant, from what stage 3 left of `start`; regularisation is alpha and imitation.

        From the `baselines` come the networks of the runs that fall back; without baselines none does.
        """
        regularised = variant != variants.NO_REGULARISATION
        section = f"stage4.{modality}"
        alone: list[int] = []
        networks: dict[str, Tensor] = {}
        if baselines is not None:
            alone = falling_back(stage3, start, self.task.settings[section])
            for mine, theirs in (("student", "encoder"), ("head", "head")):
                unimodal = checkpoint.network(baselines, f"{modality}/{variants.UNIMODAL}", theirs)
                networks |= {f"{mine}.{name}": weights[alone] for name, weights in unimodal.items()}

        def stage(block: Block) -> Stage:
            frozen = block.encoder(teacher, checkpoint.network(stage3, start, "teacher"))
            head = block.head(checkpoint.network(stage3, start, "head"))
            freeze(block.stack, "latent", lambda x: frozen(x.features(teacher)))
            freeze(block.stack, "answer", lambda x: head(x.frozen("latent")))
            block.stack.keep((modality,))
            own = block.settings
            return FineTuning(
                block.encoder((modality,), checkpoint.network(stage3, start, "student")),
                head,
                modality,
                own["alpha"] if regularised else 0.0,
                own["weighting"],
                own["relative_latent"],
                own["imitation"] if regularised else 0.0,
                own["temperature"],
            )

        name = trained_name(variant, start)
        self._train(self._label(modality, name, "stage4"), name, teacher, section, stage, known=(alone, networks))

    def _label(self, modality: str, variant: str, stage: str) -> Label:
        return Label(self.task.corpus.name, modality, variant, stage)

    def _train(
        self,
        label: Label,
        variant: str,
        modalities: tuple[str, ...],
        name: str,
        make: Callable[[Block], Stage],
        judge: Callable[[Block, Any], dict[str, Tensor]] | None = None,
        known: tuple[Sequence[int], Mapping[str, Tensor]] = ((), {}),
    ) -> None:
        """Train one variant in blocks of runs; keep its tensors under `variant`.

        `judge` has more to say of the runs of a trained stage, (runs, ...) by name. Runs whose tensors are `known` are
        not trained.
        """
        from model.fit import fit  # with it comes a compiler, which evaluation and prediction do without

        def train(make_block: Callable[[], Block]) -> tuple[list[int], list[Point], dict[str, Tensor]]:
            block = make_block()
            stage = make(block)
            points = fit(stage, block.stack, block.settings, self.task.seed, label)
            found = {**stage.state_dict(), **(judge(block, stage) if judge else {})}
            return block.stack.runs, points, {key: value.detach().cpu() for key, value in found.items()}

        untrained, kept = known
        runs, parts = [*untrained], [kept] if untrained else []
        workers = torch.get_num_threads() if self.task.device.type == "cpu" else 1
        makers = self.task.makers(modalities, name, workers, without=untrained)
        for own, points, tensors in side_by_side(train, makers, workers):
            self.trained.curves += [(label, point) for point in points]
            runs += own
            parts.append(tensors)
        in_order = torch.tensor(runs).argsort()
        for key in parts[0]:
            self.trained.tensors[f"{variant}/{key}"] = torch.cat([part[key] for part in parts])[in_order]


def side_by_side(work: Callable[[Any], Any], items: Iterator[Any], workers: int) -> Iterator[Any]:
    """`work` done on each item, in their order, by so many threads with one core each."""
    with threadpool_limits(1, "blas"):  # of compiled steps; torch has threads of its own
        if workers == 1:
            yield from map(work, items)
            return
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from pool.map(work, items)


@torch.no_grad()
def of_all_items(stack: Stack, network: Callable[[Batch], Tensor]) -> Tensor:
    """What a network that stands still makes of every item, (R, N, outputs)."""
    return torch.cat([network(batch) for batch in stack.everything()], 1)


def freeze(stack: Stack, name: str, network: Callable[[Batch], Tensor]) -> None:
    """Compute once what a frozen network makes of every item."""
    stack.freeze(name, of_all_items(stack, network))


def borrowed(
    task: Task, teacher: tuple[str, ...], modality: str, networks: tuple[Mapping[str, Tensor], Mapping[str, Tensor]]
) -> tuple[tuple[dict[str, Tensor], dict[str, Tensor]] | None, str | None]:
    """Another corpus's pre-trained teacher and student for this one's runs, or why they do not fit.

    Run r begins with the other corpus's run r (modulo its number of runs): no item of this corpus is in either.
    """
    block = next(task.blocks(teacher, f"stage3.{modality}"))
    for name, modalities, weights in (("teacher", teacher, networks[0]), ("student", (modality,), networks[1])):
        mine = block.encoder(modalities).state_dict()
        if missing := mine.keys() - weights.keys():
            return None, f"its {name} has no {', '.join(sorted(missing))}"
        if more := weights.keys() - mine.keys():
            return None, f"its {name} has {', '.join(sorted(more))} beside what it has here"
        for key, own in mine.items():
            if own.shape[1:] != weights[key].shape[1:]:
                return None, f"its {name}'s {key} is {_shape(weights[key])}, here {_shape(own)}"
    runs = torch.arange(len(task.splits))
    first, second = ({key: value[runs % len(value)] for key, value in weights.items()} for weights in networks)
    return (first, second), None


def _shape(weights: Tensor) -> str:
    return " x ".join(map(str, weights.shape[1:]))


def kept_metrics(curves: Sequence[tuple[Label, Point]]) -> dict[str, dict[str, float]]:
    """The mean over runs of the validation loss and metric of the weights left behind, by `modality/variant`."""
    found: dict[str, dict[str, list[float]]] = {}
    for label, point in curves:
        if point.kept:
            values = found.setdefault(f"{label.modality}/{label.variant}", {"val_loss": [], "val_metric": []})
            values["val_loss"].append(point.val_loss)
            if point.val_metric is not None:
                values["val_metric"].append(point.val_metric)
    return {
        name: {key: sum(numbers) / len(numbers) for key, numbers in values.items() if numbers}
        for name, values in found.items()
    }


def device_of(name: str) -> torch.device:
    """`auto` is the GPU where there is one. Raises UserError for a GPU that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError("training.device is cuda, and torch sees no GPU: write auto or cpu")
    if name.startswith("cuda"):  # on a CPU nothing used here is ever anything else, and to say so imports a compiler
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # nothing here reads what it has not written
    return torch.device(name)
