"""VGGish in Keras with random weights, saved with the signature of the TF Hub module: a peer to measure by."""

import os
from pathlib import Path

import numpy as np

LAYERS = (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool")
SCOPES = ("conv1", "conv2", "conv3/conv3_1", "conv3/conv3_2", "conv4/conv4_1", "conv4/conv4_2")
LINEAR_SCOPES = ("fc1/fc1_1", "fc1/fc1_2", "fc2")


def keras_network(seed: int = 0, final_activation: str | None = None):
    """A Keras model (n, 96, 64, 1) -> (n, 128) with He-normal kernels and biases that are not zero."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras

    def options():
        nonlocal seed
        seed += 2
        return {
            "kernel_initializer": keras.initializers.HeNormal(seed),
            "bias_initializer": keras.initializers.RandomNormal(stddev=0.1, seed=seed + 1),
        }

    layers = [keras.Input((96, 64, 1))]
    for width in LAYERS:
        if width == "pool":
            layers.append(keras.layers.MaxPooling2D(2, padding="same"))
        else:
            layers.append(keras.layers.Conv2D(width, 3, padding="same", activation="relu", **options()))
    layers.append(keras.layers.Flatten())
    layers += [keras.layers.Dense(4096, activation="relu", **options()) for _ in range(2)]
    layers.append(keras.layers.Dense(128, activation=final_activation, **options()))
    return keras.Sequential(layers)


def module(network):
    """A tf.Module that takes a waveform (samples,), -1..1 at 16 kHz, as the TF Hub module does, and gives (n, 128)."""
    import tensorflow as tf

    class Vggish(tf.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        @tf.function(input_signature=(tf.TensorSpec([None], tf.float32),))
        def __call__(self, waveform):
            spectrum = tf.abs(tf.signal.stft(waveform, 400, 160, 512))
            mel = tf.signal.linear_to_mel_weight_matrix(64, 257, 16_000, 125.0, 7500.0)
            log_mel = tf.math.log(tf.matmul(spectrum, mel) + 0.01)
            return self.network(tf.signal.frame(log_mel, 96, 96, axis=0)[..., tf.newaxis])

    return Vggish()


def save_module(folder: Path, seed: int = 0, final_activation: str | None = None) -> Path:
    """A SavedModel of it in `folder`."""
    import tensorflow as tf

    tf.saved_model.save(module(keras_network(seed, final_activation)), str(folder))
    return folder


def save_module_as_published(folder: Path, network) -> Path:
    """A SavedModel built the way that AudioSet's exporter builds the TF Hub module, with its variable names."""
    import tensorflow as tf

    values = iter(network.get_weights())

    class Vggish(tf.Module):
        def __init__(self):
            super().__init__()
            self._variables = []
            signature = (tf.TensorSpec([None], tf.float32),)
            self._function = tf.compat.v1.wrap_function(self._embeddings, signature=signature)

        def _variable(self, name):
            self._variables.append(tf.Variable(next(values), name=name))
            return self._variables[-1]

        def _embeddings(self, waveform):
            spectrum = tf.abs(tf.signal.stft(waveform, 400, 160, 512))
            mel = tf.signal.linear_to_mel_weight_matrix(64, 257, 16_000, 125.0, 7500.0)
            x = tf.signal.frame(tf.math.log(tf.matmul(spectrum, mel) + 0.01), 96, 96, axis=0)[..., tf.newaxis]
            for index, scope in enumerate(SCOPES):
                x = tf.nn.conv2d(x, self._variable(f"vggish/{scope}/weights"), 1, "SAME")
                x = tf.nn.relu(x + self._variable(f"vggish/{scope}/biases"))
                x = tf.nn.max_pool2d(x, 2, 2, "SAME") if index in (0, 1, 3, 5) else x
            x = tf.reshape(x, [-1, 6 * 4 * 512])
            for scope in LINEAR_SCOPES:
                x = tf.matmul(x, self._variable(f"vggish/{scope}/weights"))
                x = x + self._variable(f"vggish/{scope}/biases")
                x = x if scope == "fc2" else tf.nn.relu(x)
            return x

        @tf.function(input_signature=(tf.TensorSpec([None], tf.float32),))
        def __call__(self, waveform):
            return self._function(waveform)

    tf.saved_model.save(Vggish(), str(folder))
    return folder


def save_checkpoint(path: Path, network) -> Path:
    """The network's weights as a TF1 checkpoint, under the names of AudioSet's vggish_model.ckpt."""
    import tensorflow as tf

    weights = network.get_weights()
    values = {}
    for scope, kernel, bias in zip((*SCOPES, *LINEAR_SCOPES), weights[::2], weights[1::2], strict=True):
        values[f"vggish/{scope}/weights"], values[f"vggish/{scope}/biases"] = kernel, bias
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = [tf.compat.v1.get_variable(name, value.shape) for name, value in values.items()]
        for variable, value in zip(variables, values.values(), strict=True):
            variable.load(value, session)
        tf.compat.v1.train.Saver(variables, write_version=1).save(session, str(path), write_meta_graph=False)
    return path


def waveform(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise and a wandering tone, float32, -1..1, at 16 kHz."""
    time_s = np.arange(round(seconds * 16_000)) / 16_000
    tone = np.sin(2 * np.pi * 400 * time_s + 40 * np.sin(2 * np.pi * 0.5 * time_s))
    noise = np.random.default_rng(seed).standard_normal(len(time_s))
    return (0.3 * tone + 0.1 * noise).clip(-1, 1).astype(np.float32)
