"""A cut of a video in, a row for each sampled frame with a face out: a vision backbone's vector (visual features).

The detector is OpenCV's Haar cascade, whose parameters its package ships; the largest face is cropped with a margin.
Frames without a face are counted and left out.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipeline.features import huggingface
from pipeline.features.extractor import Bundle, Extractor, Item, NoRows, Unit, rows_unchanged

if TYPE_CHECKING:
    import torch

    from pipeline.features.compute import Plan

CASCADE = "haarcascade_frontalface_default.xml"
UNTRAINED = "untrained-resnet-50"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Settings:
    """`features.visual` of the config."""

    model: str = "microsoft/resnet-50"  # or any vision backbone's name or folder, or: untrained-resnet-50
    revision: str | None = None
    seed: int = 0  # of untrained weights
    rate_hz: float = 2.0  # frames looked at in a second
    margin: float = 0.2  # added to each side of the face, as a share of its size
    least_face: float = 0.1  # faces below this share of the picture's height are not looked for
    max_height: int = 480  # higher pictures are made smaller before the face is looked for
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = rows_unchanged("auto")
    batch_frames: int = rows_unchanged(32)

    def __post_init__(self) -> None:
        for name in ("rate_hz", "least_face", "max_height", "batch_frames"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; write a number above 0")
        if self.margin < 0:
            raise ValueError(f"margin is {self.margin}; write 0 or more")


def weights_identity(settings: Settings) -> str:
    """The backbone's name and revision, its folder's content, or the seed of untrained weights."""
    if settings.model == UNTRAINED:
        return f"{UNTRAINED}, seed {settings.seed}"
    return huggingface.identity(settings.model, settings.revision)


def load(settings: Settings, weights_path: str | Path | None, plan: Plan) -> FaceEncoder:
    """The detector and the backbone. Raises UserError where the model is not to be had."""
    if settings.model == UNTRAINED:
        return FaceEncoder(settings, untrained_resnet_50(settings.seed), plan)
    import transformers

    network = huggingface.load(
        transformers.AutoModel.from_pretrained, settings.model, settings.revision, dtype="float32"
    )
    return FaceEncoder(settings, network, plan)


class FaceEncoder(Extractor):
    """A face detector and a Hugging Face vision backbone."""

    def __init__(self, settings: Settings, network: torch.nn.Module, plan: Plan):
        import cv2
        import torch

        from pipeline.features import compute

        cv2.setNumThreads(1)  # the readers are threads already
        self._cascade = cv2.data.haarcascades + CASCADE
        self._settings, self._device = settings, plan.device
        self.batch_size = settings.batch_frames
        self._local = threading.local()
        self.image_size, mean, std = _preprocessing(settings, network)
        self._mean = torch.tensor(mean, device=plan.device).view(3, 1, 1)
        self._std = torch.tensor(std, device=plan.device).view(3, 1, 1)
        generator = torch.Generator().manual_seed(0)
        probe = torch.nn.functional.interpolate(
            torch.rand(8, 3, 14, 14, generator=generator), size=(self.image_size,) * 2, mode="bilinear"
        )
        probe = self._normalised((probe * 255).to(plan.device))
        placed = compute.place(network, plan, probe, _vectors)
        self._network = placed.network
        with torch.inference_mode():
            width = _vectors(self._network, probe).shape[1]
        untrained = settings.model == UNTRAINED
        self.bundle = Bundle(
            name="face",
            modality="visual",
            weights=settings.model,
            revision=f"seed {settings.seed}"
            if untrained
            else huggingface.revision_of(network, settings.model, settings.revision),
            untrained=untrained,
            licence="none needed: seeded numbers" if untrained else huggingface.licence_of(settings.model),
            sample_rate_hz=settings.rate_hz,
            preprocessing=f"largest face of {CASCADE}, margin {settings.margin:g}, {self.image_size} pixels square",
            widths={"embedding": width},
            device=plan.device,
            precision=placed.precision,
            bfloat16_cosine=placed.cosine,
            method=placed.method,
        )

    def units(self, item: Item) -> Generator[Unit, None, str | None]:
        """A unit for each sampled frame with a face; its index counts all sampled frames.

        Raises NoRows where no frame has one, or the video has no pictures; UserError where ffmpeg was kept from its
        work: a row with that for a reason would stay.
        """
        from pipeline.media.video import VideoError, frames

        step_s = 1.0 / self._settings.rate_hz
        sampled = found = 0
        broken: str | None = None
        try:
            for time_s, picture in frames(
                item.video, self._settings.rate_hz, item.start_s, item.end_s, item.side, self._settings.max_height
            ):
                crop = self._face(picture)
                if crop is not None:
                    found += 1
                    yield Unit(sampled, 1, crop, time_s, time_s + step_s)
                sampled += 1
        except VideoError as error:
            if not found:
                raise NoRows(str(error)) from None
            broken = str(error)
        if not found:
            raise NoRows(f"no face in any of {sampled} frames")
        notes = [f"no face in {sampled - found} of {sampled} frames"] if found < sampled else []
        return "; ".join(notes + ([broken] if broken else [])) or None

    def run(self, units: Sequence[Unit]) -> dict[str, np.ndarray]:
        """The backbone's pooled vectors (n, width)."""
        import torch

        from pipeline.features.compute import BATCH_MULTIPLE, filled

        with torch.inference_mode():
            pixels = torch.from_numpy(np.stack([unit.data for unit in units])).to(self._device)  # (n, H, W, 3)
            pixels = self._normalised(filled(pixels).permute(0, 3, 1, 2).float())
            # On a CPU small parts stay in its cache, and parts of one size give the same bits in every batch.
            parts = pixels.split(len(pixels) if pixels.is_cuda else BATCH_MULTIPLE)
            vectors = torch.cat([_vectors(self._network, part) for part in parts])
            return {"embedding": vectors[: len(units)].cpu().numpy()}

    def _normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        """0..255 (n, 3, H, W) -> the backbone's range."""
        import torch

        return ((pixels / 255.0 - self._mean) / self._std).contiguous(memory_format=torch.channels_last)

    def _face(self, picture: np.ndarray) -> np.ndarray | None:
        """The largest face with its margin, uint8 (size, size, 3); None where there is none."""
        import cv2

        box = largest_face(picture, self._detector(), self._settings.least_face)
        if box is None:
            return None
        left, top, right, bottom = with_margin(box, self._settings.margin, picture.shape[1], picture.shape[0])
        crop = picture[top:bottom, left:right]
        shrinks = crop.shape[0] > self.image_size
        size = (self.image_size, self.image_size)
        return cv2.resize(crop, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)

    def _detector(self) -> Any:
        """The thread's own detector: one must not be shared."""
        if not hasattr(self._local, "detector"):
            import cv2

            self._local.detector = cv2.CascadeClassifier(self._cascade)
        return self._local.detector


def largest_face(picture: np.ndarray, detector: Any, least_face: float) -> tuple[int, int, int, int] | None:
    """(left, top, width, height) of the largest face in an RGB picture; None where there is none."""
    import cv2

    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    least = max(20, round(least_face * picture.shape[0]))
    boxes = detector.detectMultiScale(grey, scaleFactor=1.1, minNeighbors=5, minSize=(least, least))
    if len(boxes) == 0:
        return None
    left, top, width, height = max(boxes, key=lambda box: (box[2] * box[3], -box[0], -box[1]))
    return int(left), int(top), int(width), int(height)


def with_margin(
    box: tuple[int, int, int, int], margin: float, picture_width: int, picture_height: int
) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of a face's box with a margin on each side, inside the picture."""
    left, top, width, height = box
    extra = round(margin * max(width, height))
    return (
        max(0, left - extra),
        max(0, top - extra),
        min(picture_width, left + width + extra),
        min(picture_height, top + height + extra),
    )


def untrained_resnet_50(seed: int) -> torch.nn.Module:
    """ResNet-50 as published, with seeded weights."""
    import torch
    import transformers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return transformers.ResNetModel(transformers.ResNetConfig())


def _vectors(network: torch.nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Normalised pixels (n, 3, H, W) -> the backbone's vector of the whole picture, float32 (n, width)."""
    from pipeline.features.compute import dtype_of

    output = network(pixels.to(dtype_of(network)))
    pooled = getattr(output, "pooler_output", None)
    if pooled is not None:
        return pooled.flatten(1).float()
    hidden = output.last_hidden_state  # (n, C, H, W) of a convolutional network, (n, T, C) of a transformer
    return (hidden.flatten(2).mean(2) if hidden.ndim == 4 else hidden[:, 0]).float()


def _preprocessing(settings: Settings, network: torch.nn.Module) -> tuple[int, Sequence[float], Sequence[float]]:
    """(picture size, mean, standard deviation) that the backbone was trained with; ImageNet's where it does not say."""
    size = getattr(network.config, "image_size", None)
    size = size if isinstance(size, int) else 224
    if settings.model == UNTRAINED:
        return size, IMAGENET_MEAN, IMAGENET_STD
    found = _preprocessor_config(settings)
    return size, found.get("image_mean") or IMAGENET_MEAN, found.get("image_std") or IMAGENET_STD


def _preprocessor_config(settings: Settings) -> dict[str, Any]:
    from transformers.utils import cached_file

    folder = huggingface.folder_of(settings.model)
    path = cached_file(
        str(folder) if folder else settings.model,
        "preprocessor_config.json",
        revision=settings.revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return json.loads(Path(path).read_text()) if path else {}
