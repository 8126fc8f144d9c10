"""VGGish: the front end, the post-processing and the converted network against what AudioSet published."""

import io
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from pipeline.errors import UserError
from pipeline.features import bundle, vggish
from pipeline.features.extractor import Item, NoRows
from pipeline.features.vggish_network import WINDOW_HOP_SAMPLES, WINDOW_SAMPLES, FrontEnd, Postprocessor
from pipeline.features.windows import windows
from pipeline.features.winograd import WinogradConvolution
from tests import vggish_peer

SIGNALS = ("ljspeech", "speechbrain", "sine_1khz")


def flac(waveform: np.ndarray) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, waveform, 16_000, format="FLAC", subtype="PCM_16")
    return out.getvalue()


def rows_of(extractor, waveform: np.ndarray) -> tuple[np.ndarray, str | None]:
    units, note = read(extractor, waveform)
    return extractor.run(units)["embedding"], note


def read(extractor, waveform: np.ndarray):
    units, generator = [], extractor.units(Item("x", audio=flac(waveform)))
    while True:
        try:
            units.append(next(generator))
        except StopIteration as end:
            return units, end.value


def as_decoded(waveform: np.ndarray) -> np.ndarray:
    """`waveform` as 16 bits hold it."""
    return soundfile.read(io.BytesIO(flac(waveform)), dtype="float32")[0]


def extractor_with(weights, folder, **settings):
    settings = {"extractor": "vggish", "weights": str(weights), "precision": "float32", "device": "cpu", **settings}
    path = folder / "weights.safetensors"
    if not path.exists():
        bundle.convert_weights("acoustic", settings, path)
    return bundle.load("acoustic", settings, path)


@pytest.fixture
def scratch():
    """A folder that is gone when the test is: weights are large."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def saved_model():
    with tempfile.TemporaryDirectory() as folder:
        yield vggish_peer.save_module(Path(folder, "vggish"))


@pytest.fixture(scope="module")
def hub_folder(saved_model):
    """A folder whose weights.safetensors was converted from the SavedModel."""
    with tempfile.TemporaryDirectory() as folder:
        extractor_with(saved_model, Path(folder))
        yield Path(folder)


@pytest.fixture(scope="module")
def untrained_folder():
    with tempfile.TemporaryDirectory() as folder:
        extractor_with("untrained", Path(folder))
        yield Path(folder)


@pytest.mark.parametrize("signal", SIGNALS)
def test_log_mel_examples_equal_those_of_the_official_front_end(shared, signal):
    reference = np.load(shared / "reference" / "vggish_logmel.npz")
    waveform = reference[f"{signal}_pcm16k"].astype(np.float32) / 32768.0
    cut = torch.from_numpy(waveform).unfold(0, WINDOW_SAMPLES, WINDOW_HOP_SAMPLES)
    examples = FrontEnd()(cut).numpy()
    assert examples.shape == reference[f"{signal}_logmel"].shape
    np.testing.assert_allclose(examples, reference[f"{signal}_logmel"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("block_samples", [999, 15_360, 16_000, 100_000])
def test_windows_of_a_stream_do_not_depend_on_its_blocks(block_samples):
    signal = np.arange(100_000, dtype=np.float32)
    blocks = (signal[start : start + block_samples] for start in range(0, len(signal), block_samples))
    *whole, rest = windows(blocks, WINDOW_SAMPLES, WINDOW_HOP_SAMPLES)
    expected = np.lib.stride_tricks.sliding_window_view(signal, WINDOW_SAMPLES)[::WINDOW_HOP_SAMPLES]
    np.testing.assert_array_equal(np.stack(whole), expected)
    np.testing.assert_array_equal(rest, signal[len(expected) * WINDOW_HOP_SAMPLES :])


def published_formula(embeddings, parameters):
    """AudioSet's vggish_postprocess, step by step."""
    applied = np.dot(parameters["pca_eigen_vectors"], embeddings.T - parameters["pca_means"].reshape(-1, 1)).T
    clipped = np.clip(applied, -2.0, 2.0)
    return applied, ((clipped - -2.0) * (255.0 / (2.0 - -2.0))).astype(np.uint8)


def test_pca_and_quantisation_equal_the_published_formula_to_the_last_bit(shared):
    parameters = np.load(shared / "reference" / "vggish_pca_params.npz")
    embeddings = np.random.default_rng(0).normal(0.0, 0.6, (1000, 128)).astype(np.float32)
    applied, quantised = published_formula(embeddings, parameters)
    ours = Postprocessor(parameters["pca_eigen_vectors"], parameters["pca_means"])
    assert np.array_equal(ours.pca(embeddings), applied)
    assert np.array_equal(ours.quantised(embeddings), quantised)
    assert set(np.unique(quantised)) >= {0, 255}


def test_the_config_chooses_raw_pca_or_quantised_output(shared, untrained_folder):
    path = shared / "reference" / "vggish_pca_params.npz"
    sound = vggish_peer.waveform(3.0)
    raw = rows_of(extractor_with("untrained", untrained_folder), sound)[0]
    applied, quantised = published_formula(raw, np.load(path))
    for output, expected in (("pca", applied.astype(np.float32)), ("quantized", quantised.astype(np.float32))):
        extractor = extractor_with("untrained", untrained_folder, output=output, pca=str(path))
        np.testing.assert_allclose(rows_of(extractor, sound)[0], expected, rtol=1e-6, atol=1e-5)
        assert output in extractor.bundle.preprocessing


def test_pca_output_without_its_parameters_is_an_error_that_says_what_to_fetch():
    with pytest.raises(UserError, match=r"vggish_pca_params\.npz"):
        bundle.check("acoustic", {"extractor": "vggish", "output": "quantized"})


def test_other_pca_parameters_make_other_rows(tmp_path):
    settings = {"extractor": "vggish", "weights": "untrained", "output": "pca", "pca": str(tmp_path / "pca.npz")}
    with pytest.raises(UserError, match=r"pca\.npz does not exist: put the file there"):
        bundle.fingerprint_of("acoustic", settings)
    fingerprints = set()
    for seed in (0, 1):
        numbers = np.random.default_rng(seed)
        np.savez(
            tmp_path / "pca.npz", pca_eigen_vectors=numbers.normal(size=(128, 128)), pca_means=numbers.normal(size=128)
        )
        os.utime(tmp_path / "pca.npz", (seed, seed))  # a clock's tick is longer than this test
        fingerprints.add(bundle.fingerprint_of("acoustic", settings))
    assert len(fingerprints) == 2


@pytest.mark.parametrize(
    "name", ["vggish/variables/variables.data-00000-of-00001", "vggish_model.ckpt", "vggish_model.ckpt.index"]
)
def test_other_local_weights_of_the_same_size_are_converted_again(tmp_path, name):
    named = tmp_path / name.split("/")[0].removesuffix(".index")
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    fingerprints = set()
    for second, content in enumerate((b"0123", b"4567")):
        (tmp_path / name).write_bytes(content)
        os.utime(tmp_path / name, (second, second))
        fingerprints.add(bundle.weights_fingerprint("acoustic", {"extractor": "vggish", "weights": str(named)}))
    assert len(fingerprints) == 2


def test_weights_from_tf_hub_give_the_modules_output(saved_model, hub_folder):
    import tensorflow_hub

    sound = as_decoded(vggish_peer.waveform(6.0))
    reference = np.asarray(tensorflow_hub.load(str(saved_model))(sound))
    exact = rows_of(extractor_with(saved_model, hub_folder), sound)[0]
    np.testing.assert_allclose(exact, reference, rtol=0, atol=1e-4)
    rounded = rows_of(extractor_with(saved_model, hub_folder, precision="bfloat16"), sound)[0]
    assert cosines(rounded, reference).min() >= 0.999


def test_weights_from_a_tf1_checkpoint_give_the_networks_output(scratch):
    network = vggish_peer.keras_network(seed=100)
    checkpoint = vggish_peer.save_checkpoint(scratch / "vggish_model.ckpt", network)
    sound = as_decoded(vggish_peer.waveform(4.0))
    reference = np.asarray(vggish_peer.module(network)(sound))
    exact = rows_of(extractor_with(checkpoint, scratch), sound)[0]
    np.testing.assert_allclose(exact, reference, rtol=0, atol=1e-4)
    rounded = rows_of(extractor_with(checkpoint, scratch, precision="bfloat16"), sound)[0]
    assert cosines(rounded, reference).min() >= 0.999


def test_a_module_exported_as_the_published_one_is_converted(scratch):
    network = vggish_peer.keras_network(seed=300)
    saved = vggish_peer.save_module_as_published(scratch / "hub", network)
    sound = as_decoded(vggish_peer.waveform(3.0))
    reference = np.asarray(vggish_peer.module(network)(sound))
    exact = rows_of(extractor_with(saved, scratch), sound)[0]
    np.testing.assert_allclose(exact, reference, rtol=0, atol=1e-4)


def test_a_module_with_an_activation_at_its_end_is_recognised(scratch):
    saved = vggish_peer.save_module(scratch / "hub", seed=200, final_activation="relu")
    assert rows_of(extractor_with(saved, scratch), vggish_peer.waveform(3.0))[0].min() == 0.0


def test_a_network_that_disagrees_with_the_original_is_refused(saved_model, scratch, monkeypatch):
    from pipeline.features import vggish_weights

    right = vggish_weights._run_module
    monkeypatch.setattr(vggish_weights, "_run_module", lambda *arguments: right(*arguments) + 0.002)
    with pytest.raises(UserError, match=r"differs from the original by 0\.002"):
        extractor_with(saved_model, scratch)
    assert list(scratch.iterdir()) == []


def test_weights_that_cannot_be_fetched_are_an_error_that_says_which_file_to_put_where(scratch, monkeypatch):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(scratch / "empty"))
    url = "http://127.0.0.1:9/google/vggish/1"
    with pytest.raises(UserError, match=r"saved_model.pb.*weights: FOLDER"):
        bundle.convert_weights("acoustic", {"extractor": "vggish", "weights": url}, scratch / "w")
    with pytest.raises(UserError, match=r"vggish_model.ckpt"):
        settings = {"extractor": "vggish", "weights": str(scratch / "vggish_model.ckpt")}
        bundle.convert_weights("acoustic", settings, scratch / "w")


def test_weights_of_another_network_are_refused(scratch):
    import tensorflow as tf

    other = tf.Module()
    other.kernel = tf.Variable(tf.zeros([3, 3]))
    tf.saved_model.save(other, str(scratch / "other"))
    with pytest.raises(UserError):
        bundle.convert_weights("acoustic", {"extractor": "vggish", "weights": str(scratch / "other")}, scratch / "w")


def test_untrained_weights_are_seeded_named_and_alive(untrained_folder, scratch):
    extractor = extractor_with("untrained", untrained_folder)
    assert extractor.bundle.untrained
    assert extractor.bundle.weights == "untrained"
    rows, _ = rows_of(extractor, vggish_peer.waveform(5.0))
    assert (rows.std(axis=0) > 0).mean() > 0.99
    again = extractor_with("untrained", scratch)
    assert again.bundle.revision == extractor.bundle.revision
    np.testing.assert_array_equal(rows_of(again, vggish_peer.waveform(5.0))[0], rows)


def test_sound_shorter_than_a_window_is_padded_and_marked(untrained_folder):
    extractor = extractor_with("untrained", untrained_folder)
    units, note = read(extractor, vggish_peer.waveform(0.4))
    assert [(unit.index, unit.start_s, unit.end_s) for unit in units] == [(0, 0.0, 0.4)]
    assert note == "padded: 0.4 s of 0.975"
    assert not units[0].data[6400:].any()


@pytest.mark.parametrize("seconds", [0.5, 3.0])
def test_silence_has_no_rows_but_a_reason(untrained_folder, seconds):
    extractor = extractor_with("untrained", untrained_folder)
    with pytest.raises(NoRows, match="silent"):
        read(extractor, np.zeros(round(seconds * 16_000), dtype=np.float32))


def test_bytes_that_are_no_flac_have_no_rows_but_a_reason(untrained_folder):
    with pytest.raises(NoRows, match="not FLAC"):
        list(extractor_with("untrained", untrained_folder).units(Item("x", audio=b"RIFF")))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_window_has_the_same_row_in_every_batch(untrained_folder, precision):
    extractor = extractor_with("untrained", untrained_folder, precision=precision)
    units, _ = read(extractor, vggish_peer.waveform(12.0))
    together = extractor.run(units)["embedding"]
    for count in (1, 3, 9):
        np.testing.assert_array_equal(extractor.run(units[:count])["embedding"], together[:count])
        np.testing.assert_array_equal(extractor.run(units[-count:])["embedding"], together[-count:])


@pytest.mark.parametrize("pools", [False, True])
def test_winograds_way_equals_the_plain_convolution(pools):
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(32, 48, 3, padding=1)
    pictures = torch.randn(3, 32, 12, 8).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = convolution(pictures)
        expected = torch.nn.functional.max_pool2d(expected, 2) if pools else expected
        ours = WinogradConvolution(convolution, pools)(pictures)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("amx", [True, False])
def test_bfloat16_is_near_float32_by_either_way_and_the_bundle_says_which(untrained_folder, monkeypatch, amx):
    from pipeline.features import compute

    monkeypatch.setattr(compute, "cpu_flags", lambda: frozenset({"amx_bf16"} if amx else {"avx512_bf16"}))
    extractor = extractor_with("untrained", untrained_folder, precision="auto")
    described = extractor.bundle
    assert (described.precision, described.method) == ("bfloat16", "plain" if amx else "Winograd convolutions")
    assert described.bfloat16_cosine >= 0.999
    sound = vggish_peer.waveform(6.0)
    exact = rows_of(extractor_with("untrained", untrained_folder), sound)[0]
    assert cosines(rows_of(extractor, sound)[0], exact).min() >= 0.999


def test_a_network_that_bfloat16_would_spoil_stays_in_float32():
    from pipeline.features import compute

    class Fragile(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.full((1,), 1000.0))

        def forward(self, x):
            return (x.to(self.weight.dtype) + self.weight).float() - 1000.0

    probe = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    asked, chosen = (
        compute.place(Fragile(), compute.Plan("cpu", "bfloat16", asked), probe, lambda network, x: network(x))
        for asked in (True, False)
    )
    assert (asked.precision, chosen.precision) == ("bfloat16", "float32")
    assert asked.cosine < 0.999
    assert chosen.cosine is None


def test_a_file_that_holds_no_weights_is_an_error_that_names_it(scratch):
    (scratch / "w.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"w.safetensors holds no VGGish weights"):
        bundle.load("acoustic", {"extractor": "vggish", "weights": vggish.UNTRAINED}, scratch / "w.safetensors")


def cosines(ours: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Row by row."""
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(reference, axis=1)
    return (ours * reference).sum(axis=1) / norms
