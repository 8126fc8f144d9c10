"""VGGish's published weights in, one safetensors file for the torch network out; the conversion proves itself.

Sources: the TF Hub module (a URL, through tensorflow_hub and its TFHUB_CACHE_DIR, or a SavedModel's folder), AudioSet's
TF1 checkpoint vggish_model.ckpt, or `untrained`: the same architecture with seeded weights.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import store
from pipeline.errors import UserError
from pipeline.features.vggish import UNTRAINED, Settings
from pipeline.progress import log

LARGEST_DIFFERENCE = 1e-3
CHECKPOINT_SCOPES = (
    "conv1",
    "conv2",
    "conv3/conv3_1",
    "conv3/conv3_2",
    "conv4/conv4_1",
    "conv4/conv4_2",
    "fc1/fc1_1",
    "fc1/fc1_2",
    "fc2",
)
CHECKPOINT_SUFFIXES = (".ckpt", ".index")


def convert(settings: Settings, output_path: str | Path) -> None:
    """Write the weights that `settings` name as safetensors, with their origin as metadata.

    Published weights are run on a test signal in TensorFlow and in torch.
    Raises UserError where they are not to be had, are not VGGish's, or the two outputs differ by more than 1e-3.
    """
    from safetensors.torch import save_file

    metadata = {"network": "vggish", "source": settings.weights, "licence": "Apache-2.0", "untrained": "false"}
    if settings.weights == UNTRAINED:
        from pipeline.features.vggish_network import untrained_state

        state = untrained_state(settings.seed)
        metadata |= {"untrained": "true", "seed": str(settings.seed), "final_activation": "none"}
        metadata["licence"] = "none needed: seeded numbers"
    else:
        state, proof = _published(settings.weights)
        metadata |= proof
    metadata["sha256"] = _state_hash(state)
    with store.atomic(output_path) as temporary:
        save_file(state, str(temporary), metadata)
    log(f"vggish: weights from {settings.weights} written to {output_path}")


def proof_signal() -> np.ndarray:
    """Three seconds of a rising tone in noise, float32 (48000,), -1..1: what both networks hear."""
    time_s = np.arange(48_000) / 16_000
    tone = 0.5 * np.sin(2 * np.pi * (200.0 + 900.0 * time_s) * time_s)
    return (tone + 0.05 * np.random.default_rng(0).standard_normal(48_000)).astype(np.float32)


def _published(weights: str) -> tuple[dict[str, Any], dict[str, str]]:
    """(state of the torch network, metadata) from TensorFlow, after the proof."""
    signal = proof_signal()
    path = Path(weights)
    if path.suffix in CHECKPOINT_SUFFIXES or _is_checkpoint(path):
        variables = _read_checkpoint(path)
        reference = _run_checkpoint(variables, signal)
        candidates: Iterator[dict[str, Any]] = iter([_state(variables)])
        final_relus = (False,)
    else:
        model = _load_module(weights)
        reference = _run_module(model, signal, weights)
        candidates = _states_of_module(model, weights)
        final_relus = (False, True) if reference.min() >= 0 else (False,)
    return _proven(candidates, final_relus, reference, signal, weights)


def _proven(
    candidates: Iterator[dict[str, Any]],
    final_relus: tuple[bool, ...],
    reference: np.ndarray,
    signal: np.ndarray,
    weights: str,
) -> tuple[dict[str, Any], dict[str, str]]:
    """The candidate that gives the reference output; UserError where none does."""
    import torch

    from pipeline.features.vggish_network import WINDOW_HOP_SAMPLES, WINDOW_SAMPLES, FrontEnd, from_state

    windows = torch.from_numpy(signal).unfold(0, WINDOW_SAMPLES, WINDOW_HOP_SAMPLES)
    least = math.inf
    with torch.inference_mode():
        examples = FrontEnd()(windows)
        if reference.shape != (len(windows), 128):
            raise UserError(f"{weights} gives {reference.shape} for 3 s of sound; VGGish gives ({len(windows)}, 128)")
        for state in candidates:
            for final_relu in final_relus:
                output = from_state(state, final_relu)(examples).numpy()
                difference = float(np.abs(output - reference).max())
                least = min(least, difference)
                if difference <= LARGEST_DIFFERENCE:
                    log(f"vggish: TensorFlow and torch differ by {difference:.2g} at most on the test signal")
                    return state, {
                        "final_activation": "relu" if final_relu else "none",
                        "largest_difference": f"{difference:.3g}",
                    }
    raise UserError(
        f"{weights}: the converted network differs from the original by {least:.3g} on the test signal (at most "
        f"{LARGEST_DIFFERENCE:g} is allowed): these are not VGGish's weights, or the file is damaged; fetch it again"
    )


# --- TF Hub ------------------------------------------------------------------------------------------------------


def _load_module(weights: str) -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    is_url = weights.startswith(("https://", "http://"))
    if not is_url and not Path(weights).is_dir():
        raise UserError(
            f"features.acoustic.weights: {weights} does not exist; write a URL (https://tfhub.dev/google/vggish/1), "
            "the folder of its SavedModel, the path of vggish_model.ckpt, or: untrained"
        )
    import tensorflow_hub

    try:
        return tensorflow_hub.load(weights)
    except Exception as error:  # urllib, TensorFlow and OS errors, whatever stands between here and the site
        if not is_url:
            raise UserError(f"{weights} is no SavedModel ({_first_line(error)})") from error
        cache = os.environ.get("TFHUB_CACHE_DIR")
        raise UserError(
            f"{weights} could not be fetched ({_first_line(error)}). Where there is a network, fetch "
            f"{weights}?tf-hub-format=compressed and unpack it into a folder (saved_model.pb and variables/ in it); "
            f"then write features.acoustic.weights: FOLDER. TFHUB_CACHE_DIR is {cache or 'not set'}; a cache filled "
            "on another machine works too"
        ) from error


def _run_module(model: Any, signal: np.ndarray, weights: str) -> np.ndarray:
    """Waveform (samples,) -> float32 (n, 128), by the module's own graph."""
    import tensorflow as tf

    waveform = tf.constant(signal)
    try:
        if callable(model):
            output = model(waveform)
        else:
            signature = model.signatures["serving_default"]
            output = signature(**dict.fromkeys(signature.structured_input_signature[1], waveform))
        if isinstance(output, Mapping):
            (output,) = output.values()
        return np.asarray(output, dtype=np.float32)
    except (KeyError, TypeError, ValueError, tf.errors.OpError) as error:
        raise UserError(
            f"{weights} does not make embeddings of a waveform ({_first_line(error)}), so it is not VGGish: write the "
            "URL or folder of google/vggish/1"
        ) from error


def _states_of_module(model: Any, weights: str) -> Iterator[dict[str, Any]]:
    """Every way to give the module's variables to the torch network that fits by shape and name.

    Kernels have shapes of their own. Biases of one length belong to several layers: they are paired with the kernels of
    their scope; where scopes do not tell, every order is tried, and the proof decides.
    """
    variables = [(variable.name, variable.numpy()) for variable in _variables(model)]
    kernels: list[tuple[str, np.ndarray]] = []
    for shape in _kernel_shapes():
        fitting = [(name, value) for name, value in variables if value.shape == shape]
        if len(fitting) != 1:
            raise UserError(f"{weights} has {len(fitting)} variables of shape {shape}; VGGish has one")
        kernels += fitting
    for biases in _bias_orders([name for name, _ in kernels], [(n, v) for n, v in variables if v.ndim == 1], weights):
        yield _state(list(zip((value for _, value in kernels), biases, strict=True)))


def _bias_orders(
    kernel_names: list[str], biases: list[tuple[str, np.ndarray]], weights: str
) -> Iterator[list[np.ndarray]]:
    lengths = [shape[-1] for shape in _kernel_shapes()]

    def scope(name: str) -> str:
        return name.rpartition("/")[0]

    orders_of: dict[int, list[tuple[np.ndarray, ...]]] = {}
    for length in dict.fromkeys(lengths):
        of_length = [(name, value) for name, value in biases if value.shape == (length,)]
        layers = [name for name, layer in zip(kernel_names, lengths, strict=True) if layer == length]
        if len(of_length) != len(layers):
            raise UserError(f"{weights} has {len(of_length)} biases of {length}; VGGish has {len(layers)}")
        by_scope = {scope(name): value for name, value in of_length}
        if len(by_scope) == len(layers) and all(scope(name) in by_scope for name in layers):
            orders_of[length] = [tuple(by_scope[scope(name)] for name in layers)]
        else:
            orders_of[length] = list(itertools.permutations(value for _, value in of_length))
    for orders in itertools.product(*orders_of.values()):
        left = {length: list(order) for length, order in zip(orders_of, orders, strict=True)}
        yield [left[length].pop(0) for length in lengths]


def _variables(model: Any) -> list[Any]:
    """The module's variables, where it lists them, else those that its functions use."""
    for attribute in ("variables", "_variables"):
        listed = list(getattr(model, attribute, None) or [])
        if listed:
            return listed
    found: dict[str, Any] = {}
    functions = list(getattr(model, "signatures", {}).values())
    if callable(model):
        functions += getattr(model.__call__, "concrete_functions", [])
    for function in functions:
        for variable in function.graph.variables:
            found.setdefault(variable.name + str(id(variable)), variable)
    return list(found.values())


# --- TF1 checkpoint ------------------------------------------------------------------------------------------------


def _is_checkpoint(path: Path) -> bool:
    return path.with_name(path.name + ".index").is_file()


def _read_checkpoint(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """(kernel, bias) of each layer of vggish_model.ckpt, by the names that AudioSet's code gives them."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    prefix = str(path.with_suffix("")) if path.suffix == ".index" else str(path)
    if not path.exists() and not _is_checkpoint(path):
        raise UserError(
            f"features.acoustic.weights: {path} does not exist; put the file there that "
            "https://storage.googleapis.com/audioset/vggish_model.ckpt gives"
        )
    try:
        reader = tf.train.load_checkpoint(prefix)
        return [
            (reader.get_tensor(f"vggish/{scope}/weights"), reader.get_tensor(f"vggish/{scope}/biases"))
            for scope in CHECKPOINT_SCOPES
        ]
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise UserError(f"{path} is no VGGish checkpoint ({_first_line(error)}); fetch it again") from error


def _run_checkpoint(variables: list[tuple[np.ndarray, np.ndarray]], signal: np.ndarray) -> np.ndarray:
    """AudioSet's network in TensorFlow's own operations: waveform (samples,) -> float32 (n, 128)."""
    import tensorflow as tf

    spectrum = tf.abs(tf.signal.stft(tf.constant(signal, tf.float64), 400, 160, 512))
    mel = tf.signal.linear_to_mel_weight_matrix(64, 257, 16_000, 125.0, 7500.0, tf.float64)
    log_mel = tf.cast(tf.math.log(spectrum @ mel + 0.01), tf.float32)
    x = tf.signal.frame(log_mel, 96, 96, axis=0)[..., tf.newaxis]  # (n, 96, 64, 1)
    for index, (kernel, bias) in enumerate(variables):
        if kernel.ndim == 4:
            x = tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME") + bias)
            if index in (0, 1, 3, 5):
                x = tf.nn.max_pool2d(x, 2, 2, "SAME")
        else:
            x = tf.reshape(x, (x.shape[0], -1)) @ kernel + bias
            x = x if index == len(variables) - 1 else tf.nn.relu(x)
    return x.numpy()


# --- both ----------------------------------------------------------------------------------------------------------


def _kernel_shapes() -> list[tuple[int, ...]]:
    """TensorFlow's shapes of the nine kernels, in the order of the layers."""
    from pipeline.features.vggish_network import CONVOLUTIONS, LINEARS

    return [(3, 3, i, o) for i, o in CONVOLUTIONS] + list(LINEARS)


def _state(layers: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """TensorFlow's (kernel, bias) of each layer as the torch network's state: (3, 3, in, out) -> (out, in, 3, 3)."""
    import torch

    state = {}
    counts = {"convolutions": 0, "linears": 0}
    for kernel, bias in layers:
        kind = "convolutions" if kernel.ndim == 4 else "linears"
        axes = (3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)
        name = f"{kind}.{counts[kind]}"
        counts[kind] += 1
        state[f"{name}.weight"] = torch.from_numpy(np.ascontiguousarray(kernel.transpose(axes)))
        state[f"{name}.bias"] = torch.from_numpy(np.ascontiguousarray(bias))
    return state


def _state_hash(state: Mapping[str, Any]) -> str:
    import torch

    digest = hashlib.sha256(json.dumps(sorted(state)).encode())
    for name in sorted(state):
        digest.update(state[name].contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
