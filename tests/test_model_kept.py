"""Each run keeps the weights of its own best epoch, whatever the runs beside it do."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.kept import Kept
from model.settings import STAGES, of_stages
from model.train import Task, Trainer, kept_metrics
from model.variants import STUDENTS
from tests.test_model_stack import corpus, settings, splits

pytestmark = pytest.mark.usefixtures("one_thread")


class Weights(torch.nn.Module):
    """A stage whose weights say which epoch it is."""

    def __init__(self, runs):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(runs, 1, 1))

    def at(self, epoch):
        self.weight.data.fill_(epoch)


def kept(losses, keep):
    """What is left of runs whose validation losses after each epoch are given, (epochs, runs)."""
    stage = Weights(len(losses[0]))
    kept = Kept(stage, len(losses[0]), keep)
    for epoch, row in enumerate(losses):
        stage.at(epoch)
        kept.see(epoch, row)
    kept.go_back()
    return stage.weight.flatten().tolist(), kept.epoch.tolist()


@given(
    st.integers(1, 4).flatmap(
        lambda runs: st.lists(st.lists(st.floats(0, 5), min_size=runs, max_size=runs), min_size=1, max_size=12)
    )
)
def test_a_run_goes_back_to_the_first_of_its_best_epochs(losses):
    best = [own.index(min(own)) for own in zip(*losses, strict=True)]
    assert kept(losses, "best") == (best, best)
    assert kept(losses, "last") == ([len(losses) - 1] * len(best),) * 2


def test_a_loss_that_is_no_number_is_never_the_best():
    assert kept([[1.0], [float("nan")], [0.9]], "best") == ([2], [2])
    assert kept([[1.0], [float("nan")]], "best") == ([0], [0])


def trained(chosen, **more):
    told = of_stages(settings(learning_rate=3e-3, averaging=0.5, **more), STAGES, STUDENTS)
    trainer = Trainer(Task(corpus(), chosen, told, 0, torch.device("cpu")))
    trainer.plain(("lexical",))
    return trainer.trained


def test_the_weights_kept_are_those_of_a_training_of_so_many_epochs():
    early = trained(splits(), epochs=12, keep="best")
    epoch_of = {point.run: point.epoch for _, point in early.curves if point.kept}
    assert sorted(epoch_of) == [0, 1, 2] and any(0 < epoch < 12 for epoch in epoch_of.values()), epoch_of
    for run, epochs in epoch_of.items():
        whole = trained(splits(), epochs=epochs)
        for name, values in early.tensors.items():
            assert torch.equal(values[run], whole.tensors[name][run]), name


def test_what_a_run_keeps_depends_on_no_other():
    together, alone = trained(splits(), epochs=12, keep="best"), trained(splits()[:1], epochs=12, keep="best")
    assert [point for _, point in together.curves if point.run == 0] == [point for _, point in alone.curves]
    for name, values in alone.tensors.items():
        assert torch.equal(values[0], together.tensors[name][0]), name


def test_the_curve_and_the_metrics_tell_which_epoch_was_kept():
    for keep in ("best", "last"):
        one = trained(splits(), epochs=12, keep=keep)
        losses = []
        for run in range(3):
            own = [point for _, point in one.curves if point.run == run]
            expected = own[-1] if keep == "last" else min(own, key=lambda point: point.val_loss)
            assert [point for point in own if point.kept] == [expected]
            losses.append(expected.val_loss)
        assert kept_metrics(one.curves)["lexical/unimodal"]["val_loss"] == pytest.approx(sum(losses) / 3)
