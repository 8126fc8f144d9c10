"""How fast the stacked trainer is: TED lexical's complete cell, against one module a run and a DataLoader.

    python benchmarks/trainer.py --judgenet ../shared/judgenet

Both sides train the same list of networks on the same corpus, with the paper's settings and as many runs: unimodal,
multimodal, distilled, stages 1 to 3 and, in stage 4, ours with and without regularisation. The ordinary side is written
as anybody would write it: torch.nn modules, torch.optim.Adam, torch's AveragedModel, batches of 64 from a DataLoader
over tensors, and the same learning curves. Both may use the same number of threads: the stacked trainer gives each of
them a share of the runs. Prints the times, their ratio, and the share of the machine's measured matrix-product rate
that the stacked trainer reaches.
"""

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.metrics import f1_score
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from model.data import CLASSIFICATION, Corpus, Split
from model.settings import STAGES, of_stages, resolve
from model.splits import PARTS, paper_splits
from model.train import Task, Trainer
from model.variants import STUDENTS
from pipeline import memory

BOTH = ("lexical", "acoustic")
VARIANTS = ("ours", "ours_no_regularisation")


def published_ted(judgenet: str) -> Corpus:
    """TED as the authors published its features."""
    from pipeline.corpora import published

    read = published.read("ted", {"judgenet": judgenet, "metadata": None})
    ids = read.catalog.table["item_id"].to_pylist()
    features = {
        modality: torch.stack([torch.as_tensor(read.features[modality][item_id]) for item_id in ids]).float()
        for modality in BOTH
    }
    target = torch.tensor(read.catalog.table["target"].to_pylist()).long()
    return Corpus("ted", ids, None, target, CLASSIFICATION, list(read.catalog.classes), features)


def stacked(corpus: Corpus, splits: list[Split]) -> Trainer:
    """The complete cell, all runs at once."""
    settings = of_stages(resolve({}, "ted", "paper"), STAGES, STUDENTS)
    trainer = Trainer(Task(corpus, splits, settings, 0, torch.device("cpu")))
    trained = trainer.trained.tensors
    trainer.plain(("lexical",))
    trainer.plain(BOTH)
    trainer.distilled("lexical", dict(trained))
    trainer.stage1(BOTH)
    trainer.stage2(BOTH, "lexical", dict(trained))
    start = tuple(
        {name.split(".")[1]: tensor for name, tensor in trained.items() if name.startswith(f"pretrained/{network}.")}
        for network in ("teacher", "student")
    )
    trainer.stage3(BOTH, "lexical", "pretrained", start)
    after = dict(trained)
    for variant in VARIANTS:
        trainer.stage4(BOTH, "lexical", variant, "pretrained", after)
    return trainer


class Network(nn.Sequential):
    """Encoder, decoder or head of one run."""

    def __init__(self, inputs: int, outputs: int, hidden: int = 64, dropout: float = 0.1):
        layers = []
        for width in (inputs, hidden):
            linear = nn.Linear(width, hidden)
            nn.init.kaiming_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
            layers += [linear, nn.LeakyReLU(), nn.Dropout(dropout), nn.LayerNorm(hidden)]
        super().__init__(*layers, nn.Linear(hidden, outputs))


@contextmanager
def standing_in(network: nn.Module, other: nn.Module) -> Iterator[None]:
    """The weights of `other` stand in `network` for a while."""
    own = copy.deepcopy(network.state_dict())
    network.load_state_dict(other.state_dict())
    yield
    network.load_state_dict(own)


def ordinary(corpus: Corpus, split: Split, epochs: int = 10) -> None:
    """The complete cell for one run."""
    features = torch.cat([corpus.features[modality] for modality in BOTH], 1)
    train = features[split.train]
    features = (features - train.mean(0)) / train.std(0, correction=0).clamp_min(1e-8)
    x, y = features[split.train], corpus.target[split.train]
    x_val, y_val = features[split.val], corpus.target[split.val]
    lexical, everything = corpus.width(("lexical",)), corpus.width(BOTH)

    def fit(networks: list[nn.Module], step: Callable, *frozen: Tensor, val: tuple[Tensor, ...] = ()) -> list[Any]:
        """Train by `step`, which gives a batch's loss and, but for the pre-training, answers; the learning curve.

        The averages of the weights are what is measured, and left behind.
        """
        trained = nn.ModuleList(networks)
        optimiser = torch.optim.Adam(trained.parameters(), lr=1e-3)
        averaged = AveragedModel(trained, multi_avg_fn=get_ema_multi_avg_fn(0.98))
        loader = DataLoader(TensorDataset(x, y, *frozen), batch_size=64, shuffle=True)
        curve = []
        for _ in range(epochs):
            trained.train()
            train_loss = 0.0
            for batch in loader:
                optimiser.zero_grad()
                loss, _ = step(*batch)
                loss.backward()
                optimiser.step()
                averaged.update_parameters(trained)
                train_loss += loss.item()
            trained.eval()
            with torch.no_grad(), standing_in(trained, averaged.module):
                loss, answer = step(x_val, y_val, *val)
                point = [train_loss / len(loader), loss.item()]
                if answer is not None:
                    decided = answer.argmax(-1)
                    point += [F.cross_entropy(answer, y_val).item(), f1_score(y_val, decided, average="macro")]
            curve.append(point)
        trained.load_state_dict(averaged.module.state_dict())
        return curve

    def frozen(network: nn.Module, rows: Tensor) -> Tensor:
        network.eval()
        with torch.no_grad():
            return network(rows)

    def plain(encoder: nn.Module, head: nn.Module, width: int) -> Callable:
        def step(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            logits = head(encoder(x[:, :width]))
            return F.cross_entropy(logits, y), logits

        return step

    unimodal = Network(lexical, 64), Network(64, 2)
    fit([*unimodal], plain(*unimodal, lexical))
    multimodal = Network(everything, 64), Network(64, 2)
    fit([*multimodal], plain(*multimodal, everything))

    def taught(logits: Tensor, answer: Tensor, y: Tensor) -> Tensor:
        soft = F.kl_div(F.log_softmax(logits / 7, -1), F.softmax(answer / 7, -1), reduction="batchmean")
        return 0.3 * 49 * soft + 0.7 * F.cross_entropy(logits, y)

    encoder, head = Network(lexical, 64), Network(64, 2)

    def distilled(x: Tensor, y: Tensor, answer: Tensor) -> tuple[Tensor, Tensor]:
        logits = head(encoder(x[:, :lexical]))
        return taught(logits, answer, y), logits

    oracle = nn.Sequential(*multimodal)
    fit([encoder, head], distilled, frozen(oracle, x), val=(frozen(oracle, x_val),))

    teacher, decoder = Network(everything, 64), Network(64, everything)
    fit([teacher, decoder], lambda x, y: (F.l1_loss(decoder(teacher(x)), x), None))

    student, head = Network(lexical, 64), Network(64, 2)
    fit(
        [student],
        lambda x, y, z: (F.l1_loss(student(x[:, :lexical]), z), None),
        frozen(teacher, x),
        val=(frozen(teacher, x_val),),
    )

    def joint(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        z = teacher(x)
        logits = head(z)
        return F.cross_entropy(logits, y) + 0.3 * F.l1_loss(student(x[:, :lexical]), z.detach()), logits

    fit([teacher, student, head], joint)

    after = [{name: value.clone() for name, value in network.state_dict().items()} for network in (student, head)]
    latents = frozen(teacher, x), frozen(teacher, x_val)
    answers = frozen(head, latents[0]), frozen(head, latents[1])

    def tuned(x: Tensor, y: Tensor, z: Tensor, answer: Tensor) -> tuple[Tensor, Tensor]:
        latent = student(x[:, :lexical])
        logits = head(latent)
        return taught(logits, answer, y) + 0.3 * F.l1_loss(latent, z), logits

    fit([student, head], tuned, latents[0], answers[0], val=(latents[1], answers[1]))
    for network, weights in zip((student, head), after, strict=True):
        network.load_state_dict(weights)
    fit([student, head], plain(student, head, lexical))


def products(corpus: Corpus, items: int, epochs: int = 10) -> float:
    """Multiplications and additions of one run's matrix products in the complete cell, forward and backward."""
    lexical, everything = corpus.width(("lexical",)), corpus.width(BOTH)

    def network(inputs: int, outputs: int, first: bool) -> int:
        """Per item: forward, the weights' gradients, and the inputs' gradients where something lies before."""
        inner = 64 * 64 + 64 * outputs
        return 2 * (inputs * 64 * (2 if first else 3) + inner * 3)

    student, teacher, head = network(lexical, 64, True), network(everything, 64, True), network(64, 2, False)
    decoder = network(64, everything, False)
    cell = [student + head, teacher + head, student + head, teacher + decoder, student, teacher + head + student]
    return float(items * epochs * (sum(cell) + len(VARIANTS) * (student + head)))


def matrix_rate(size: int = 1024, measured_s: float = 1.0) -> float:
    """Operations per second of this machine's float32 matrix product, with the threads that torch uses."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    rates = []
    until = time.perf_counter() + measured_s
    while time.perf_counter() < until:
        rates.append(2 * size**3 / seconds(torch.mm, a, b))
    return statistics.median(rates)


def seconds(work: Callable[..., Any], *arguments: Any) -> float:
    """How long `work` takes."""
    begun = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - begun


def spread(times: list[float]) -> str:
    return f"{len(times)} timings from {min(times):.1f} to {max(times):.1f} s"


def splits_of(items: int, runs: int) -> Iterator[Split]:
    for assignment in paper_splits(items, runs, 0):
        parts = [(assignment.part == number).nonzero()[0] for number in range(len(PARTS))]
        yield Split(assignment.run, *parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judgenet", default="../shared/judgenet", help="a checkout of the published features")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    memory.keep_freed()  # as the commands do
    torch.set_num_threads(args.threads)
    corpus = published_ted(args.judgenet)
    splits = list(splits_of(len(corpus.item_ids), args.runs))

    # A machine's speed changes within minutes: the stacked cell is timed before, between and after the ordinary runs.
    ours, theirs, rates = [], [], []
    for quarter in [*(splits[start::4] for start in range(4)), []]:
        ours.append(seconds(stacked, corpus, splits))
        rates.append(matrix_rate())
        theirs += [seconds(ordinary, corpus, split) for split in quarter]
    ours_s, theirs_s, rate = statistics.median(ours), sum(theirs), statistics.median(rates)
    reached = products(corpus, len(splits[0].train)) * args.runs / ours_s
    print(f"TED lexical, complete cell, {args.runs} runs, {len(corpus.item_ids)} talks, {args.threads} threads")
    print(f"stacked   {ours_s:8.1f} s, median of {spread(ours)}")
    print(f"ordinary  {theirs_s:8.1f} s, sum of {spread(theirs)}")
    print(f"ratio     {theirs_s / ours_s:8.1f}")
    print(f"matrix products: {reached / 1e9:.0f} of {rate / 1e9:.0f} GFLOP/s, a share of {reached / rate:.2f}")


if __name__ == "__main__":
    main()
