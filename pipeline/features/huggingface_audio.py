"""Sound in, a row for each few seconds out: any Hugging Face audio encoder (wav2vec2, HuBERT, WavLM, …)."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from pipeline.features import huggingface
from pipeline.features.extractor import Bundle, Extractor, Item, Unit, rows_unchanged
from pipeline.features.windows import Sound

if TYPE_CHECKING:
    import torch

    from pipeline.features.compute import Plan

SAMPLE_RATE_HZ = 16_000
# The encoders make a frame of 320 samples (20 ms); the last window is cut to whole ones, a shorter one is padded.
FRAME_SAMPLES = 320
LEAST_SAMPLES = 10 * FRAME_SAMPLES


@dataclass(frozen=True)
class Settings:
    """`features.acoustic` of the config, extractor huggingface_audio."""

    model: str = "facebook/wav2vec2-base"
    revision: str | None = None
    window_s: float = 5.0  # a row is the mean over a window's frames
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = rows_unchanged("auto")
    batch_s: float = rows_unchanged(40.0)

    def __post_init__(self) -> None:
        if self.window_s * SAMPLE_RATE_HZ < LEAST_SAMPLES:
            raise ValueError(f"window_s is {self.window_s}; write {LEAST_SAMPLES / SAMPLE_RATE_HZ} or more")
        if self.batch_s <= 0:
            raise ValueError(f"batch_s is {self.batch_s}; write a number above 0")


def weights_identity(settings: Settings) -> str:
    """The model's name and revision, or its folder's content."""
    return huggingface.identity(settings.model, settings.revision)


def load(settings: Settings, weights_path: str | Path | None, plan: Plan) -> AudioEncoder:
    """The encoder. Raises UserError where the model is not to be had."""
    import transformers

    network = huggingface.load(
        transformers.AutoModel.from_pretrained, settings.model, settings.revision, dtype="float32"
    )
    return AudioEncoder(settings, network, plan)


class AudioEncoder(Extractor):
    """A Hugging Face encoder of raw sound."""

    def __init__(self, settings: Settings, network: torch.nn.Module, plan: Plan):
        import torch

        from pipeline.features import compute

        self._window = round(settings.window_s * SAMPLE_RATE_HZ) // FRAME_SAMPLES * FRAME_SAMPLES
        self.batch_size = max(self._window, round(settings.batch_s * SAMPLE_RATE_HZ))
        self._device = plan.device
        generator = torch.Generator().manual_seed(0)
        probe = torch.randn(2, SAMPLE_RATE_HZ, generator=generator).cumsum(1)
        placed = compute.place(network, plan, _normalised(probe).to(plan.device), _vectors)
        self._network = placed.network
        self.bundle = Bundle(
            name="huggingface_audio",
            modality="acoustic",
            weights=settings.model,
            revision=huggingface.revision_of(network, settings.model, settings.revision),
            untrained=False,
            licence=huggingface.licence_of(settings.model),
            sample_rate_hz=SAMPLE_RATE_HZ,
            preprocessing=f"windows of {self._window / SAMPLE_RATE_HZ:g} s, mean 0 and variance 1; mean over frames",
            widths={"embedding": network.config.hidden_size},
            device=plan.device,
            precision=placed.precision,
            bfloat16_cosine=placed.cosine,
            method=placed.method,
        )

    def units(self, item: Item) -> Generator[Unit, None, str | None]:
        """A unit for each window, and one for what is left if it is not too short. Raises NoRows for silence."""
        start, note = 0, None
        for index, window in enumerate(Sound(item.audio).windows(self._window, self._window)):
            start_s, end_s = start / SAMPLE_RATE_HZ, (start + len(window)) / SAMPLE_RATE_HZ
            start += len(window)
            if len(window) < LEAST_SAMPLES:
                if index > 0:
                    continue
                note = f"padded: {end_s:.3g} s of {LEAST_SAMPLES / SAMPLE_RATE_HZ:g}"
                window = np.concatenate([window, np.zeros(LEAST_SAMPLES - len(window), dtype=np.float32)])
            window = window[: len(window) // FRAME_SAMPLES * FRAME_SAMPLES]
            yield Unit(index, len(window), window, start_s, end_s)
        return note

    def run(self, units: Sequence[Unit]) -> dict[str, np.ndarray]:
        """Mean vectors (n, width)."""
        import torch

        with torch.inference_mode():
            waveform = torch.from_numpy(np.stack([unit.data for unit in units])).to(self._device)
            return {"embedding": _vectors(self._network, _normalised(waveform)).cpu().numpy()}


def _normalised(waveform: torch.Tensor) -> torch.Tensor:
    """Each window (n, samples) with mean 0 and variance 1, as wav2vec2's feature extractor has it."""
    centred = waveform - waveform.mean(1, keepdim=True)
    return centred / (centred.square().mean(1, keepdim=True) + 1e-7).sqrt()


def _vectors(network: torch.nn.Module, waveform: torch.Tensor) -> torch.Tensor:
    """(n, samples) -> the mean over frames of the last layer, float32 (n, width)."""
    from pipeline.features.compute import dtype_of

    return network(waveform.to(dtype_of(network))).last_hidden_state.float().mean(1)
