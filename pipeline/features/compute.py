"""Where and how precisely a network runs: device, bfloat16 or float32, and the proof that bfloat16 is good enough."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.errors import UserError
from pipeline.progress import log

if TYPE_CHECKING:
    import torch

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "float32", "bfloat16"]

LEAST_COSINE = 0.999
# Pictures and sound go through convolutions in multiples of this. One alone would go through other kernels than many,
# with other rounding; so the rows of a batch are the same, bit for bit, whatever its size.
BATCH_MULTIPLE = 8


@dataclass(frozen=True)
class Plan:
    """Device and precision as chosen, and whether the precision was asked for."""

    device: str
    precision: str
    precision_was_asked_for: bool

    def as_dict(self) -> dict[str, str]:
        """What the rows depend on: part of the provenance, compared before rows are kept."""
        return {"device": self.device, "precision": self.precision}


def plan(device: Device = "auto", precision: Precision = "auto") -> Plan:
    """The GPU where there is one; bfloat16 where the device computes it natively.

    Raises UserError where CUDA is asked for and missing.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("config: device is cuda, but torch sees no CUDA GPU here; write device: auto or cpu")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    asked = precision != "auto"
    if not asked:
        native = torch.cuda.is_bf16_supported(including_emulation=False) if device == "cuda" else cpu_has_bfloat16()
        precision = "bfloat16" if native else "float32"
    return Plan(device, precision, asked)


def cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 natively (AMX, avx512_bf16, or ARM's bf16)."""
    return not {"amx_bf16", "avx512_bf16", "bf16"}.isdisjoint(cpu_flags())


def cpu_flags() -> frozenset[str]:
    """What the processor says it can do; empty where it does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line for line in lines if line.startswith(("flags", "Features"))), "").split())


@dataclass(frozen=True)
class Placed:
    """A network where it will run. `cosine`: of its output to float32's, the least over a probe; None in float32."""

    network: torch.nn.Module
    precision: str
    cosine: float | None
    method: str


def place(
    network: torch.nn.Module,
    plan: Plan,
    probe: Any,
    forward: Callable[[torch.nn.Module, Any], torch.Tensor],
    quick: tuple[str, Callable[[torch.nn.Module], torch.nn.Module]] | None = None,
) -> Placed:
    """Put a float32 network on its device in its precision, convolutions channels-last.

    In bfloat16 the `probe` runs in both precisions; where their cosine is below .999 and bfloat16 was not asked for,
    the network stays in float32. `quick` names and makes a faster bfloat16 network, taken where its cosine suffices.
    """
    import torch

    torch.backends.cudnn.allow_tf32 = False  # float32 means float32 on a GPU too
    network = network.eval().requires_grad_(False).to(plan.device, memory_format=torch.channels_last)
    if plan.precision == "float32":
        return Placed(network, "float32", None, "plain")
    with torch.inference_mode():
        exact = forward(network, probe).double().flatten(1)
    for method, lowered in filter(None, (quick, ("plain", as_bfloat16))):
        small = lowered(network)
        with torch.inference_mode():
            rounded = forward(small, probe).double().flatten(1)
        cosine = round(torch.nn.functional.cosine_similarity(exact, rounded).min().item(), 6)
        if cosine >= LEAST_COSINE or (method == "plain" and plan.precision_was_asked_for):
            return Placed(small, "bfloat16", cosine, method)
        log(f"bfloat16 ({method}) gives a cosine of {cosine} to float32, less than {LEAST_COSINE}")
    return Placed(network, "float32", None, "plain")


def as_bfloat16(network: torch.nn.Module) -> torch.nn.Module:
    """A copy of the network in bfloat16, made without a second one in float32 on the way."""
    import torch

    lowered: dict[int, torch.Tensor] = {}
    for parameter in network.parameters():
        lowered[id(parameter)] = torch.nn.Parameter(parameter.to(torch.bfloat16), requires_grad=False)
    for buffer in network.buffers():
        lowered[id(buffer)] = buffer.to(torch.bfloat16) if buffer.is_floating_point() else buffer
    return copy.deepcopy(network, lowered)


def dtype_of(network: torch.nn.Module) -> torch.dtype:
    """The type of the network's weights."""
    return next(network.parameters()).dtype


def filled(batch: torch.Tensor) -> torch.Tensor:
    """`batch` filled up with its first row to a multiple of BATCH_MULTIPLE rows."""
    missing = -len(batch) % BATCH_MULTIPLE
    if missing == 0:
        return batch
    import torch

    return torch.cat([batch, batch[:1].expand(missing, *batch.shape[1:])])


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on the GPU or on the CPU."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "not enough memory" in str(error)


def free_unused_memory() -> None:
    """Give cached GPU memory back, so that a smaller batch finds room."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
