"""Sound in, a row for each .96 s out: VGGish embeddings, raw or as AudioSet releases them (acoustic features).

Its weights come from TF Hub or AudioSet's checkpoint, converted once by vggish_weights.py.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from pipeline.errors import UserError
from pipeline.features import huggingface
from pipeline.features.extractor import Bundle, Extractor, Item, Unit, rows_unchanged
from pipeline.features.windows import Sound

if TYPE_CHECKING:
    from pipeline.features.compute import Plan

NEEDS_WEIGHTS_FILE = True
CONVERSION = "pipeline.features.vggish_weights"
UNTRAINED = "untrained"
PCA_FILE = "put the file there that https://storage.googleapis.com/audioset/vggish_pca_params.npz gives"


@dataclass(frozen=True)
class Settings:
    """`features.acoustic` of the config, extractor vggish."""

    weights: str = "https://tfhub.dev/google/vggish/1"  # or a SavedModel's folder, vggish_model.ckpt, or: untrained
    seed: int = 0  # of untrained weights
    output: Literal["raw", "pca", "quantized"] = "raw"
    pca: str | None = None  # path of vggish_pca_params.npz
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = rows_unchanged("auto")
    batch_windows: int = rows_unchanged(64)

    def __post_init__(self) -> None:
        if self.output != "raw" and self.pca is None:
            raise ValueError(
                f"output is {self.output!r}, which needs AudioSet's PCA parameters: write pca: FILE, the file that "
                "https://storage.googleapis.com/audioset/vggish_pca_params.npz gives; or write output: raw"
            )
        if self.batch_windows < 1:
            raise ValueError(f"batch_windows is {self.batch_windows}; write 1 or more")


def weights_identity(settings: Settings) -> str:
    """Where the weights come from; for local files, PCA parameters among them, also their content.

    Raises UserError where the PCA parameters are missing.
    """
    what = _network_identity(settings)
    if settings.output == "raw":
        return what
    path = Path(settings.pca or "")
    if not path.is_file():
        raise UserError(f"features.acoustic.pca: {path} does not exist: {PCA_FILE}")
    return f"{what}, pca {huggingface.content_hash(path)}"


def _network_identity(settings: Settings) -> str:
    if settings.weights == UNTRAINED:
        return f"{UNTRAINED}, seed {settings.seed}"
    path = Path(settings.weights)
    index = path.with_name(f"{path.name}.index")  # of a checkpoint in several files: it holds their checksums
    local = next((file for file in (path, index) if file.exists()), None)
    return settings.weights if local is None else f"{settings.weights}@{huggingface.content_hash(local)}"


def load(settings: Settings, weights_path: str | Path | None, plan: Plan) -> Vggish:
    """The network with the converted weights in `weights_path`.

    Raises UserError for a file that is missing or of another network.
    """
    from safetensors import SafetensorError, safe_open

    from pipeline.features.vggish_network import from_state

    try:
        with safe_open(str(weights_path), framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
        network = from_state(state, final_relu=metadata.get("final_activation") == "relu")
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(
            f"{weights_path} holds no VGGish weights ({str(error).splitlines()[0]}): "
            "make it with `python -m pipeline weights acoustic`"
        ) from None
    return Vggish(settings, network, metadata, plan)


class Vggish(Extractor):
    """VGGish with its front end and what follows the network."""

    def __init__(self, settings: Settings, network, metadata: dict[str, str], plan: Plan):
        from pipeline.features import compute
        from pipeline.features.vggish_network import SAMPLE_RATE_HZ, WIDTH, WINDOW_SAMPLES, FrontEnd, with_winograd

        self.batch_size = settings.batch_windows * WINDOW_SAMPLES
        self._device = plan.device
        self._front_end = FrontEnd().to(plan.device)
        self._output, self._postprocessor = settings.output, None
        if settings.output != "raw":
            self._postprocessor = read_postprocessor(Path(settings.pca or ""))
        probe = self._front_end(_probe(WINDOW_SAMPLES).to(plan.device))
        # Where products are dear; AMX and GPUs make them cheaper than the sums that would replace them.
        winograd = plan.device == "cpu" and "amx_bf16" not in compute.cpu_flags()
        quick = ("Winograd convolutions", with_winograd) if winograd else None
        placed = compute.place(network, plan, probe, lambda network, x: network(x), quick)
        self._network = placed.network
        self.bundle = Bundle(
            name="vggish",
            modality="acoustic",
            weights=metadata.get("source", "unknown"),
            revision=metadata.get("sha256"),
            untrained=metadata.get("untrained") == "true",
            licence=metadata.get("licence", "Apache-2.0"),
            sample_rate_hz=SAMPLE_RATE_HZ,
            preprocessing=f"AudioSet log-mel, 96 frames of 25 ms every 10 ms, 64 bands; output {settings.output}",
            widths={"embedding": WIDTH},
            device=plan.device,
            precision=placed.precision,
            bfloat16_cosine=placed.cosine,
            method=placed.method,
        )

    def units(self, item: Item) -> Generator[Unit, None, str | None]:
        """A unit for each whole window; sound shorter than one is padded with zeros.

        Raises NoRows for silence.
        """
        from pipeline.features.vggish_network import SAMPLE_RATE_HZ, WINDOW_HOP_SAMPLES, WINDOW_SAMPLES

        hop_s = WINDOW_HOP_SAMPLES / SAMPLE_RATE_HZ
        note = None
        for index, window in enumerate(Sound(item.audio).windows(WINDOW_SAMPLES, WINDOW_HOP_SAMPLES)):
            start_s, end_s = index * hop_s, (index + 1) * hop_s
            if len(window) < WINDOW_SAMPLES:
                if index > 0:
                    continue  # what is left behind the last whole window, as AudioSet leaves it out
                end_s = len(window) / SAMPLE_RATE_HZ
                note = f"padded: {end_s:.3g} s of {WINDOW_SAMPLES / SAMPLE_RATE_HZ:.3g}"
                window = np.concatenate([window, np.zeros(WINDOW_SAMPLES - len(window), dtype=np.float32)])
            yield Unit(index, WINDOW_SAMPLES, window, start_s, end_s)
        return note

    def run(self, units: Sequence[Unit]) -> dict[str, np.ndarray]:
        """Embeddings (n, 128)."""
        import torch

        from pipeline.features.compute import filled

        with torch.inference_mode():
            waveform = filled(torch.from_numpy(np.stack([unit.data for unit in units]))).to(self._device)
            embeddings = self._network(self._front_end(waveform)).cpu().numpy()
        if self._postprocessor and self._output == "pca":
            embeddings = self._postprocessor.pca(embeddings)
        elif self._postprocessor:
            embeddings = self._postprocessor.quantised(embeddings)
        return {"embedding": embeddings[: len(units)].astype(np.float32)}


def read_postprocessor(path: Path):
    """AudioSet's PCA parameters. Raises UserError for a file that is missing or of another kind."""
    from pipeline.features.vggish_network import WIDTH, Postprocessor

    try:
        with np.load(path) as parameters:
            eigen_vectors, means = parameters["pca_eigen_vectors"], parameters["pca_means"]
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"features.acoustic.pca: {path} holds no PCA parameters ({error}): {PCA_FILE}") from None
    if eigen_vectors.shape != (WIDTH, WIDTH) or means.size != WIDTH:
        raise UserError(f"features.acoustic.pca: {path} has shapes {eigen_vectors.shape} and {means.shape}")
    return Postprocessor(eigen_vectors, means)


def _probe(samples: int):
    """Eight windows of sound between a tone and noise, float32 (8, samples), always the same."""
    import torch

    generator = torch.Generator().manual_seed(0)
    time_s = torch.arange(samples) / 16_000
    pitch_hz = 110.0 * 2.0 ** torch.arange(8).unsqueeze(1)
    tone = torch.sin(2 * torch.pi * pitch_hz.clamp(max=7000.0) * time_s)
    noise = torch.randn(8, samples, generator=generator)
    return (0.3 * tone + 0.1 * noise) * torch.linspace(0.1, 1.0, 8).unsqueeze(1)
