"""Talking heads for the embedded IEMOCAP: two public-domain portraits, moved, tilted, lit and cropped into clips.

Read by make_demo.py. The portraits are NASA's of Eileen Collins (astronaut.png in scikit-image) and the US Navy's of
Grace Hopper (grace_hopper.jpg in Matplotlib); both are works of the US federal government, free of copyright.
"""

import math
import random
from dataclasses import dataclass

import cv2
import matplotlib.cbook
import numpy as np
import skimage.data

WIDTH, HEIGHT = 128, 144  # of one actor's half
FACE_PX = 62  # side of the square that the detector finds, before an actor's own scale
RATE_HZ = 6

# How an actor moves: swing (pixels), its frequency (Hz), tilt of the head (degrees), light (1: as it is), bob (pixels).
MANNER = {
    "ang": (5.0, 1.6, 2.0, 0.95, 1.0),
    "hap": (3.0, 0.9, 4.0, 1.18, 4.0),
    "sad": (1.0, 0.3, -8.0, 0.78, 0.5),
    "neu": (1.2, 0.4, 0.0, 1.0, 0.5),
}


@dataclass(frozen=True)
class Manner:
    """One utterance's way of moving, drawn around its emotion's."""

    swing: float
    frequency_hz: float
    tilt: float
    light: float
    bob: float

    @classmethod
    def draw(cls, emotion: str, rng: random.Random) -> "Manner":
        swing, frequency, tilt, light, bob = MANNER.get(emotion, MANNER["neu"])
        return cls(
            swing * math.exp(rng.gauss(0, 0.45)),
            frequency * math.exp(rng.gauss(0, 0.35)),
            max(-11.0, min(11.0, tilt + rng.gauss(0, 4.0))),
            light * math.exp(rng.gauss(0, 0.13)),
            bob * math.exp(rng.gauss(0, 0.45)),
        )


LISTENING = Manner(0.6, 0.25, 0.0, 1.0, 0.3)


class Actor:
    """A portrait made into a person of its own: mirrored or not, a size, a tint, a wall behind the head."""

    def __init__(self, number: int, rng: random.Random):
        if number % 2:
            portrait = cv2.cvtColor(skimage.data.astronaut(), cv2.COLOR_RGB2BGR)
            centre, face = (225.0, 114.0), 96.0
        else:
            portrait = cv2.imread(str(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
            centre, face = (265.0, 214.0), 224.0
        if rng.random() < 0.5:
            portrait = portrait[:, ::-1]
            centre = (portrait.shape[1] - 1 - centre[0], centre[1])
        # Shrunk once with averaging, so that the moving copies do not shimmer.
        shrink = 1.25 * FACE_PX / face
        self._portrait = cv2.resize(portrait, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        self._centre = (centre[0] * shrink, centre[1] * shrink)
        self._scale = rng.uniform(0.95, 1.12) / 1.25
        self._tint = np.array([rng.uniform(0.9, 1.1) for _ in range(3)], dtype=np.float32)
        wall = np.array([rng.uniform(60, 190) for _ in range(3)], dtype=np.float32)
        rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
        distance = np.hypot((columns - WIDTH / 2) / (0.40 * WIDTH), (rows - 0.46 * HEIGHT) / (0.44 * HEIGHT))
        self._head = np.clip((1.35 - distance) / 0.35, 0, 1)[..., None]
        self._wall = wall * np.ones((HEIGHT, WIDTH, 1), dtype=np.float32)
        self._phase = rng.uniform(0, 2 * math.pi)

    def picture(self, time_s: float, manner: Manner) -> np.ndarray:
        """The actor's half at a time: uint8 (HEIGHT, WIDTH, 3), blue first."""
        angle = 2 * math.pi * manner.frequency_hz * time_s + self._phase
        shift = manner.swing * math.sin(angle), manner.bob * math.sin(2 * angle)
        warp = cv2.getRotationMatrix2D(self._centre, manner.tilt + 0.4 * shift[0], self._scale)
        warp[:, 2] += (WIDTH / 2 + shift[0] - self._centre[0], 0.46 * HEIGHT + shift[1] - self._centre[1])
        head = cv2.warpAffine(
            self._portrait, warp, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        lit = (head * self._tint * self._head + self._wall * (1 - self._head)) * manner.light
        return np.clip(lit, 0, 255).astype(np.uint8)


def between(old: Manner, new: Manner, share: float) -> Manner:
    """A manner on the way from one to the other, so that heads do not jump."""
    pairs = zip(vars(old).values(), vars(new).values(), strict=True)
    return Manner(*(a + share * (b - a) for a, b in pairs))
