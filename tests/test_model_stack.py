"""A stacked run is the run that ordinary torch would have trained alone on the same batches."""

import copy
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.optim.swa_utils import AveragedModel

from model import checkpoint
from model.curves import Label
from model.data import BatchPlan, Corpus, Split, Stack
from model.fit import fit, make_noise
from model.networks import Dropout, Noise, StackedMLP
from model.optimiser import Adam, Average
from model.settings import PAPER, STAGES, TUNED, merge, of_stages
from model.stages import Distillation, FineTuning, Joint, Landing, Plain, Reconstruction
from model.steps import Compiled
from model.train import Task, Trainer
from model.variants import STUDENTS
from pipeline.errors import UserError

RUNS, EPOCHS = 3, 17  # of three steps
BOTH = ("lexical", "acoustic")

pytestmark = pytest.mark.usefixtures("one_thread")


def corpus(task="classification", items=90):
    rng = np.random.default_rng(0)
    lexical = torch.from_numpy(rng.normal(size=(items, 12)).astype(np.float32))
    acoustic = torch.from_numpy(rng.normal(50, 20, size=(items, 5)).astype(np.float32))
    score = lexical[:, 0] + acoustic[:, 1] / 20 + torch.from_numpy(rng.normal(size=items).astype(np.float32))
    target = (score > score.median()).long() if task == "classification" else score.sigmoid()
    classes = ["low", "high"] if task == "classification" else None
    ids = [f"item{number}" for number in range(items)]
    return Corpus("toy", ids, np.array(ids), target, task, classes, {"lexical": lexical, "acoustic": acoustic})


def splits(runs=RUNS, items=90):
    found = []
    for run in range(runs):
        order = np.random.default_rng(run).permutation(items)
        found.append(Split(run, np.sort(order[20:]), np.sort(order[10:20]), np.sort(order[:10])))
    return found


def settings(**more):
    return merge(PAPER, {"epochs": 2, "batch_size": 32, **more})


def stack_of(task="classification", runs=RUNS, **more):
    chosen = splits(runs)
    return Stack(corpus(task), chosen, BOTH, settings(**more), BatchPlan.of(chosen, 32), torch.device("cpu"))


class Ordinary(torch.nn.Module):
    """One run's network as anybody would write it, beginning with the weights of run `run` of a stacked one."""

    def __init__(self, stacked, run):
        super().__init__()
        parts = [getattr(stacked, f"weight{layer}")[run] for layer in (1, 2, 3)]
        self.linears = torch.nn.ModuleList(torch.nn.Linear(*weight.shape) for weight in parts)
        for linear, weight in zip(self.linears, parts, strict=True):
            linear.weight.data, linear.bias.data = weight.detach().T.clone(), torch.zeros(weight.shape[1])
        self.norms = torch.nn.ModuleList(torch.nn.LayerNorm(parts[0].shape[1]) for _ in range(2))
        self.skip = None
        if stacked.skip_weight is not None:
            self.skip = torch.nn.Linear(*stacked.skip_weight.shape[1:], bias=False)
            self.skip.weight.data = stacked.skip_weight[run].detach().T.clone()
        self.to(parts[0].dtype)

    def forward(self, x, masks=None):
        h = x
        for linear, norm in zip(self.linears[:2], self.norms, strict=True):
            h = F.leaky_relu(linear(h), 0.01)
            h = norm(h if masks is None else h * next(masks))
        return self.linears[2](h) + (0 if self.skip is None else self.skip(x))

    def matches(self, stacked, run):
        pairs = [(linear.weight.T, f"weight{n}") for n, linear in enumerate(self.linears, 1)]
        pairs += [(linear.bias, f"bias{n}") for n, linear in enumerate(self.linears, 1)]
        pairs += [(norm.weight, f"scale{n}") for n, norm in enumerate(self.norms, 1)]
        pairs += [(norm.bias, f"shift{n}") for n, norm in enumerate(self.norms, 1)]
        pairs += [] if self.skip is None else [(self.skip.weight.T, "skip_weight")]
        for own, name in pairs:
            assert torch.allclose(own, getattr(stacked, name)[run].squeeze(0), rtol=0, atol=1e-5), name


def in_double(stack, stage):
    """The same in double precision, in which rounding does not decide at the corners of |x| and LeakyReLU.

    In single precision, autograd begun 1e-7 apart from itself ends 3e-4 apart after fifty steps of stage 1. Whether two
    ways of computing then agree is the processor's business: only the first steps are held against each other.
    """
    stack.inputs = stack.inputs.double()
    stack.frozen = {name: values.double() for name, values in stack.frozen.items()}
    return stack, stage.double()


def network(inputs, outputs, purpose=0, skip=False):
    return StackedMLP([purpose * 100 + run for run in range(RUNS)], inputs, 16, outputs, skip)


def losses_alone(kind, nets, x, student, target, frozen, masks):
    """The same loss, written for one run with torch's own functions."""

    def task(answer):
        if target.is_floating_point():
            return F.l1_loss(answer.squeeze(-1), target)
        return F.cross_entropy(answer, target)

    if kind == "stage1":
        return F.l1_loss(nets["decoder"](nets["teacher"](x, masks), masks), x)
    if kind == "stage2":
        return F.l1_loss(nets["student"](student, masks), frozen["latent"])
    if kind == "stage3":
        z_f, z_i = nets["teacher"](x, masks), nets["student"](student, masks)
        return task(nets["head"](z_f, masks)) + 0.3 * F.l1_loss(z_i, z_f.detach())
    z = nets["student" if kind.startswith("stage4") else "encoder"](student, masks)
    answer = nets["head"](z, masks)
    loss = task(answer)
    if "answer" in frozen and target.is_floating_point():
        loss = 0.3 * F.l1_loss(answer / 7, frozen["answer"] / 7) + 0.7 * loss
    elif "answer" in frozen:
        soft = F.kl_div(F.log_softmax(answer / 7, -1), F.softmax(frozen["answer"] / 7, -1), reduction="batchmean")
        loss = 0.3 * 49 * soft + 0.7 * loss
    return loss + 0.3 * F.l1_loss(z, frozen["latent"]) if "latent" in frozen else loss


def stage_of(kind, outputs, skip):
    latent = 8
    if kind == "stage1":
        return Reconstruction(network(17, latent, 1, skip), network(latent, 17, 2, skip), BOTH)
    if kind == "stage2":
        return Landing(network(12, latent, 3, skip), "lexical")
    if kind == "stage3":
        teacher, head, student = (
            network(*shape, skip) for shape in ((17, latent, 1), (latent, outputs, 4), (12, latent, 3))
        )
        return Joint(teacher, head, student, BOTH, "lexical", 0.3)
    student, head = network(12, latent, 3, skip), network(latent, outputs, 4, skip)
    if kind == "stage4":
        return FineTuning(student, head, "lexical", 0.3)
    if kind == "stage4 and answers":
        return FineTuning(student, head, "lexical", 0.3, imitation=0.3, temperature=7.0)
    if kind == "distilled":
        return Distillation(student, head, "lexical", 0.3, 7.0)
    return Plain(student, head, ("lexical",))


FROZEN = {  # what a teacher leaves beside the items
    "stage2": ("latent",),
    "stage4": ("latent",),
    "stage4 and answers": ("latent", "answer"),
    "distilled": ("answer",),
}
KINDS = ("unimodal", "distilled", "stage1", "stage2", "stage3", "stage4", "stage4 and answers")


def stand_still(stack, kind):
    """Freeze what this kind of training asks of a teacher."""
    for number, name in enumerate(FROZEN.get(kind, ()), start=1):
        width = {"latent": 8, "answer": stack.corpus.outputs}[name]
        values = torch.randn(len(stack.runs), 90, width, generator=torch.Generator().manual_seed(number))
        stack.freeze(name, values)
    return stack


@pytest.mark.parametrize(
    "kind, task, decay, skip, dropout",
    [
        *((kind, task, 0.0, False, 0.0) for kind in KINDS for task in ("classification", "regression")),
        *((kind, "classification", 0.1, True, 0.4) for kind in KINDS),
    ],
)
@pytest.mark.parametrize("double", [False, True], ids=["single", "double"])
def test_a_stacked_run_equals_ordinary_torch_on_the_same_batches(kind, task, decay, skip, dropout, double):
    stack = stand_still(stack_of(task), kind)
    stage = stage_of(kind, stack.corpus.outputs, skip)
    if double:
        stack, stage = in_double(stack, stage)
    alone = [{name: Ordinary(child, run) for name, child in stage.named_children()} for run in range(RUNS)]
    weights = [[p for net in nets.values() for n, p in net.named_parameters() if p.dim() == 2] for nets in alone]
    others = [[p for net in nets.values() for n, p in net.named_parameters() if p.dim() == 1] for nets in alone]
    optimisers = [
        torch.optim.AdamW([{"params": w, "weight_decay": decay}, {"params": o, "weight_decay": 0.0}], lr=1e-3)
        for w, o in zip(weights, others, strict=True)
    ]
    means = [AveragedModel(torch.nn.ModuleDict(nets), avg_fn=running_mean) for nets in alone]
    epochs = list(itertools.islice(stack.epochs(0, kind), EPOCHS if double else 1))
    compiled = copy.deepcopy(stage)
    steps = Compiled(compiled, stack, settings(weight_decay=decay), noise_of(dropout, stack.plan.rows))
    for epoch in epochs:
        steps.make(epoch)
    adam, average = Adam(stage, 1e-3, decay), Average(stage, PAPER["averaging"])
    noise = noise_of(dropout, stack.plan.rows)
    noise.hidden = remembered = Remembered(noise.hidden)
    for batch, weight in itertools.chain.from_iterable(epochs):
        (stage(batch, noise).loss * weight).sum().backward()
        adam.step()
        average.step()
        masks = remembered.forget()
        for run, (nets, optimiser, mean) in enumerate(zip(alone, optimisers, means, strict=True)):
            rows = weight[run] > 0
            optimiser.zero_grad()
            losses_alone(
                kind,
                nets,
                batch.features(BOTH)[run][rows],
                batch.features(("lexical",))[run][rows],
                batch.target[run][rows],
                {name: batch.frozen(name)[run][rows] for name in FROZEN.get(kind, ())},
                iter(mask[run][rows] for mask in masks) if dropout else None,
            ).backward()
            optimiser.step()
            mean.update_parameters(torch.nn.ModuleDict(nets))

    def all_match(nets_of_runs):
        for run, nets in enumerate(nets_of_runs):
            for name, net in nets.items():
                net.matches(getattr(stage, name), run)
                if double:
                    net.matches(getattr(compiled, name), run)

    all_match(alone)
    for of_steps in (average, steps.average):
        of_steps.keep()
    all_match(mean.module for mean in means)


def running_mean(mean, weights, steps):
    """Of all steps so far at first, then with the settings' decay."""
    return torch.lerp(mean, weights, max(1 / (int(steps) + 1), 1 - PAPER["averaging"]))


def noise_of(dropout, rows):
    return Noise(lambda purpose: [11, 12, 13], dropout, 0.0, (rows, 16), torch.device("cpu"))


class Remembered:
    """Dropout that keeps the masks that it gave."""

    def __init__(self, dropout):
        self._dropout, self._given = dropout, []

    def __call__(self, units):
        mask = self._dropout(torch.ones_like(units))
        self._given.append(mask)
        return units * mask

    def forget(self):
        given, self._given = self._given, []
        return given


def trainer(chosen, **more):
    everything = of_stages(settings(**more), STAGES, STUDENTS)
    return Trainer(Task(corpus(), chosen, everything, 0, torch.device("cpu")))


def every_stage(one):
    """Train everything there is on one stack; its tensors."""
    one.plain(("lexical",))
    one.plain(BOTH)
    one.distilled("lexical", dict(one.trained.tensors))
    one.stage1(BOTH)
    one.stage2(BOTH, "lexical", dict(one.trained.tensors))
    tensors = dict(one.trained.tensors)
    start = tuple(
        {key.split(".")[1]: value for key, value in tensors.items() if key.startswith(f"pretrained/{name}.")}
        for name in ("teacher", "student")
    )
    one.stage3(BOTH, "lexical", "pretrained", start)
    one.stage4(BOTH, "lexical", "ours", "pretrained", dict(one.trained.tensors))
    return one.trained.tensors


def test_stage_4_stays_near_what_stage_3s_teacher_makes_of_the_items_and_says_of_them(monkeypatch):
    one = trainer(splits())
    every_stage(one)
    after = dict(one.trained.tensors)
    seen = []
    monkeypatch.setattr("model.fit.fit", lambda stage, stack, *rest: seen.append((stage, stack)) or [])
    for variant in ("ours", "ours_no_regularisation"):
        one.stage4(BOTH, "lexical", variant, "pretrained", after)
    (ours, stack), (free, _) = seen
    assert (ours.alpha, ours.imitation) == (PAPER["stage4"]["alpha"], PAPER["stage4"]["imitation"])
    assert ours.alpha and ours.imitation and not free.alpha and not free.imitation

    block = next(one.task.blocks(BOTH, "stage3.lexical"))
    teacher = block.encoder(BOTH, checkpoint.network(after, "pretrained", "teacher"))
    head = block.head(checkpoint.network(after, "pretrained", "head"))
    (batch,) = block.stack.everything()
    z_f = teacher(batch.features(BOTH))
    assert torch.allclose(stack.frozen["latent"].view_as(z_f), z_f)
    assert torch.allclose(stack.frozen["answer"].view(*z_f.shape[:2], -1), head(z_f))


def test_a_run_does_not_depend_on_the_runs_beside_it():
    many, few = every_stage(trainer(splits(5))), every_stage(trainer(splits(2)))
    for name, tensor in few.items():
        assert torch.allclose(many[name][:2], tensor, rtol=0, atol=1e-5), name


def test_threads_share_the_runs_and_change_none_of_them():
    alone = every_stage(trainer(splits(5)))
    torch.set_num_threads(2)
    first, second = every_stage(trainer(splits(5))), every_stage(trainer(splits(5)))
    assert torch.get_num_threads() == 2
    for name, tensor in alone.items():
        assert torch.equal(first[name], second[name]), name
        assert torch.allclose(first[name], tensor, rtol=0, atol=1e-5), name


@pytest.mark.parametrize("more", [{}, {key: value for key, value in TUNED.items() if key != "epochs"}])
def test_the_same_seed_gives_the_same_bits(more):
    first, second = every_stage(trainer(splits(), **more)), every_stage(trainer(splits(), **more))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_runs_that_were_tuned_differently_are_trained_with_their_own_settings():
    usual = trainer(splits())
    usual.plain(("lexical",))
    mixed = trainer(splits())
    mixed.task.choice.update({"lexical": {1: {"learning_rate": 0.5}}})
    mixed.plain(("lexical",))
    weight = "lexical/unimodal/encoder.weight1"
    same = [torch.allclose(usual.trained.tensors[weight][run], mixed.trained.tensors[weight][run]) for run in range(3)]
    assert same == [True, False, True]


def test_a_run_is_standardised_by_its_own_training_items():
    stack = stack_of()
    for run, split in enumerate(stack.splits):
        mine = stack.inputs.view(RUNS, 90, -1)[run]
        assert torch.allclose(mine[split.train].mean(0), torch.zeros(17), atol=1e-5)
        assert torch.allclose(mine[split.train].std(0, correction=0), torch.ones(17), atol=1e-4)


def test_whitening_leaves_the_directions_of_a_modality_uncorrelated():
    stack = stack_of(whiten={"lexical": 1e-6})
    mine = stack.inputs.view(RUNS, 90, -1)[0][stack.splits[0].train][:, :12]
    assert torch.allclose(mine.T @ mine / len(mine), torch.eye(12), atol=1e-3)


def test_a_normalised_target_gives_predictions_in_the_corpus_own_unit():
    stack = stack_of("regression", normalize_target=True)
    batch, _ = stack.part("test")
    answer = batch.target.unsqueeze(-1)
    expected = stack.corpus.target[torch.stack([torch.from_numpy(split.test) for split in stack.splits])]
    assert torch.allclose(stack.decide(answer), expected, atol=1e-5)


def test_each_epoch_shows_every_training_item_once_and_no_other():
    uneven = splits()
    uneven[0] = Split(0, uneven[0].train[:-7], uneven[0].val, uneven[0].test)
    stack = Stack(corpus(), uneven, BOTH, settings(), BatchPlan.of(uneven, 32), torch.device("cpu"))
    steps = next(stack.epochs(0, "x"))
    assert len(steps.index) == 3
    for run, split in enumerate(uneven):
        seen = torch.cat([(batch.index[run] % 90)[weight[run] > 0] for batch, weight in steps])
        assert sorted(seen.tolist()) == split.train.tolist()
        assert all(weight[run].sum().item() == pytest.approx(1) for _, weight in steps)


def test_balancing_weighs_classes_alike_within_the_training_items():
    stack = stack_of(balance=True)
    for run, split in enumerate(stack.splits):
        weights, target = stack.weights[run][split.train], stack.corpus.target[split.train]
        assert weights[target == 0].sum().item() == pytest.approx(weights[target == 1].sum().item(), rel=1e-5)
        assert weights.mean().item() == pytest.approx(1, rel=1e-5)


def test_dropout_drops_the_share_it_is_told_and_keeps_the_mean():
    dropout = Dropout([1, 2], 0.75, 64, 64, torch.device("cpu"))
    units = torch.stack([dropout(torch.ones(2, 64, 64)) for _ in range(20)])
    assert set(units.unique().tolist()) == {0.0, 4.0}
    assert (units == 0).float().mean().item() == pytest.approx(0.75, abs=0.01)


@pytest.mark.parametrize("rate, loss", [(float("nan"), "nan"), (1e30, "nan|inf|e\\+")])
def test_a_loss_that_is_no_number_or_explodes_names_where_it_happened(rate, loss):
    stack = stack_of("regression")
    stage = stage_of("stage4", 1, skip=False)
    stack.freeze("latent", torch.zeros(RUNS, 90, 8))
    label = Label("toy", "lexical", "ours", "stage4")
    with pytest.raises(
        UserError, match=f"toy, lexical, variant ours, run 0, stage4, epoch [12]: the loss is .*({loss})"
    ):
        fit(stage, stack, {**settings(), "learning_rate": rate, "hidden": 16, "epochs": 4}, 0, label)


def test_the_curve_of_a_long_training_has_about_a_hundred_points():
    stack = stack_of()
    curve = fit(stage_of("unimodal", 2, False), stack, {**settings(), "hidden": 16, "epochs": 250}, 0, Label(*"abcd"))
    epochs = [point.epoch for point in curve if point.run == 0]
    assert epochs[-1] == 250 and 80 <= len(epochs) <= 101


def test_hidden_noise_differs_between_variants_and_runs():
    stack = stack_of(dropout=0.5)
    first, second = (
        make_noise(stack, settings(dropout=0.5, hidden=16), 0, Label("toy", "lexical", variant, "stage4"))
        for variant in ("ours", "ours_no_regularisation")
    )
    units = torch.ones(RUNS, stack.plan.rows, 16)
    masks = first.hidden(units)
    assert not torch.equal(masks[0], masks[1])
    assert not torch.equal(masks, second.hidden(units))
