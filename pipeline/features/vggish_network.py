"""VGGish in torch: AudioSet's log-mel front end, the network, and PCA with quantisation as AudioSet releases it.

After Hershey et al., CNN Architectures for Large-Scale Audio Classification (2017), and the code that AudioSet
published with it (github.com/tensorflow/models, research/audioset/vggish).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from pipeline.features.compute import as_bfloat16
from pipeline.features.winograd import WinogradConvolution

SAMPLE_RATE_HZ = 16_000
FRAME_SAMPLES = 400  # 25 ms
FRAME_HOP_SAMPLES = 160  # 10 ms
FFT_SAMPLES = 512
MEL_BANDS = 64
MEL_LOW_HZ, MEL_HIGH_HZ = 125.0, 7500.0
LOG_OFFSET = 0.01
WINDOW_FRAMES = 96
WINDOW_HOP_SAMPLES = WINDOW_FRAMES * FRAME_HOP_SAMPLES  # .96 s
WINDOW_SAMPLES = WINDOW_HOP_SAMPLES - FRAME_HOP_SAMPLES + FRAME_SAMPLES  # 96 frames of 25 ms, 10 ms apart: .975 s
WIDTH = 128
QUANTISE_LOW, QUANTISE_HIGH = -2.0, 2.0

CONVOLUTIONS = ((1, 64), (64, 128), (128, 256), (256, 256), (256, 512), (512, 512))
POOLED_AFTER = frozenset({0, 1, 3, 5})
CACHED_WINDOWS = 16
LINEARS = ((6 * 4 * 512, 4096), (4096, 4096), (4096, WIDTH))


def mel_matrix() -> torch.Tensor:
    """float64 (257, 64): spectrum bins to mel bands, triangles on the HTK mel scale; the constant bin counts nowhere.

    mel = 1127 ln(1 + f / 700), the triangles linear in mel.
    """

    def mel(hertz: torch.Tensor) -> torch.Tensor:
        return 1127.0 * torch.log1p(hertz / 700.0)

    bins = mel(torch.linspace(0.0, SAMPLE_RATE_HZ / 2, FFT_SAMPLES // 2 + 1, dtype=torch.float64)).unsqueeze(1)
    low, high = mel(torch.tensor([MEL_LOW_HZ, MEL_HIGH_HZ], dtype=torch.float64)).tolist()
    edges = torch.linspace(low, high, MEL_BANDS + 2, dtype=torch.float64)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    matrix = torch.minimum(rising, falling).clamp(min=0.0)
    matrix[0] = 0.0
    return matrix


class FrontEnd(nn.Module):
    """Waveform windows (n, 15600), -1..1 at 16 kHz -> log-mel examples float32 (n, 96, 64).

    In float64 inside: where a band is quiet beside a loud tone, float32 would miss the reference by more than 1e-4.
    """

    def __init__(self) -> None:
        super().__init__()
        window = torch.hann_window(FRAME_SAMPLES, periodic=True, dtype=torch.float64)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("mel", mel_matrix(), persistent=False)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        # A few windows at a time stay in a CPU's cache: half the time.
        parts = waveform.split(len(waveform) if waveform.is_cuda else 4)
        return torch.cat([self._log_mel(part) for part in parts])

    def _log_mel(self, waveform: torch.Tensor) -> torch.Tensor:
        frames = waveform.double().unfold(1, FRAME_SAMPLES, FRAME_HOP_SAMPLES)  # (n, 96, 400)
        spectrum = torch.fft.rfft(frames * self.window, n=FFT_SAMPLES).abs()  # (n, 96, 257)
        return torch.log(spectrum @ self.mel + LOG_OFFSET).float()


class Network(nn.Module):
    """Log-mel examples (n, 96, 64) -> embeddings (n, 128).

    The published embedding layer has no activation (its first release had a ReLU there; `final_relu` is that one).
    """

    def __init__(self, final_relu: bool = False) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in CONVOLUTIONS)
        self.linears = nn.ModuleList(nn.Linear(i, o) for i, o in LINEARS)
        self.final_relu = final_relu

    def forward(self, examples: torch.Tensor) -> torch.Tensor:
        # On a CPU the convolutions go by a few windows, whose activations stay in its cache; the linear layers take all
        # at once, since reading their weights is what costs.
        count = len(examples) if examples.is_cuda else CACHED_WINDOWS
        x = torch.cat([self._convolved(part) for part in examples.split(count)])
        for index, linear in enumerate(self.linears):
            x = linear(x)
            if self.final_relu or index < len(self.linears) - 1:
                x = functional.relu_(x)
        return x.float()

    def _convolved(self, examples: torch.Tensor) -> torch.Tensor:
        x = examples.to(self.linears[0].weight.dtype).unsqueeze(1)  # (n, 1, 96, 64): time, mel bands
        x = x.contiguous(memory_format=torch.channels_last)
        for index, convolution in enumerate(self.convolutions):
            x = convolution(x)
            if index in POOLED_AFTER and not getattr(convolution, "pools", False):
                x = functional.max_pool2d(x, 2)
            x = functional.relu_(x)  # after pooling it gives the same and has a quarter of the work
        return x.permute(0, 2, 3, 1).flatten(1)  # (n, 512, 6, 4) -> (n, 12288), in TensorFlow's order


def untrained_state(seed: int) -> dict[str, torch.Tensor]:
    """Seeded weights (He et al., 2015: activations keep their scale), in bfloat16, so that every precision has them."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, parameter in nn.Module.state_dict(_on_meta()).items():
        if name.endswith("bias"):
            state[name] = torch.zeros(parameter.shape, dtype=torch.bfloat16)
        else:
            scale = math.sqrt(2.0 / math.prod(parameter.shape[1:]))
            values = torch.empty(parameter.shape).normal_(0.0, scale, generator=generator)
            state[name] = values.to(torch.bfloat16)
    return state


def from_state(state: dict[str, torch.Tensor], final_relu: bool = False) -> Network:
    """The network with these weights, in float32. Raises RuntimeError where names or shapes differ."""
    network = _on_meta(final_relu)
    network.load_state_dict({name: value.float() for name, value in state.items()}, assign=True)
    return network


def _on_meta(final_relu: bool = False) -> Network:
    """The architecture without memory for weights that are loaded next anyway."""
    with torch.device("meta"):
        return Network(final_relu)


def with_winograd(network: Network) -> Network:
    """A copy in bfloat16 whose wide convolutions take Winograd's way (the first two are too narrow to gain by it)."""
    quick = as_bfloat16(network)
    for index in range(2, len(CONVOLUTIONS)):
        convolution = WinogradConvolution(network.convolutions[index], pools=index in POOLED_AFTER)
        quick.convolutions[index] = convolution.to(torch.bfloat16)
    return quick


class Postprocessor:
    """PCA (with whitening) and quantisation to 8 bits, as the AudioSet release applies them to raw embeddings."""

    def __init__(self, eigen_vectors: np.ndarray, means: np.ndarray):
        self._eigen_vectors = np.asarray(eigen_vectors, dtype=np.float64)
        self._means = np.asarray(means, dtype=np.float64).reshape(-1, 1)

    def pca(self, embeddings: np.ndarray) -> np.ndarray:
        """(n, 128) -> float64 (n, 128): eigen_vectors (x - means)."""
        return np.dot(self._eigen_vectors, embeddings.T - self._means).T

    def quantised(self, embeddings: np.ndarray) -> np.ndarray:
        """(n, 128) -> uint8 (n, 128): PCA, clipped to -2..2, scaled to 0..255, truncated."""
        clipped = np.clip(self.pca(embeddings), QUANTISE_LOW, QUANTISE_HIGH)
        return ((clipped - QUANTISE_LOW) * (255.0 / (QUANTISE_HIGH - QUANTISE_LOW))).astype(np.uint8)
