"""A stage's networks on disk: safetensors, with the settings and metrics that belong to them as metadata.

A tensor's name is `network.parameter` below the variant: `ours/student.weight1`; its first axis is the run.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline import store
from pipeline.errors import UserError


def write(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write a checkpoint whole."""
    from safetensors.torch import save_file

    tensors = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    with store.atomic(path) as temporary:
        save_file(tensors, str(temporary), metadata={"checkpoint": json.dumps(metadata, sort_keys=True)})


def read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the metadata of a checkpoint."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = json.loads((file.metadata() or {})["checkpoint"])
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: make it with `snakemake {path}`") from None
    except (SafetensorError, KeyError) as error:
        raise UserError(
            f"{path} is no checkpoint of this workflow ({error}): delete it and run snakemake again"
        ) from None


def network(tensors: Mapping[str, Tensor], variant: str, name: str) -> dict[str, Tensor]:
    """The parameters of one network of one variant, by parameter name."""
    prefix = f"{variant}/{name}."
    found = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    if not found:
        raise KeyError(f"no network {name!r} of variant {variant!r}")
    return found
