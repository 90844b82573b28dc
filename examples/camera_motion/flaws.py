"""Flaws of real footage: objects that move on their own, exposure, colour, blur, noise and compression."""

import functools
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from examples.camera_motion.windowed_picture import Picture


def add_flaws(clip: np.ndarray, rng: np.random.Generator, difficulty: float, others: Sequence[Picture]) -> np.ndarray:
    """Spoil a clip as a camera, a lens, a passer-by and a codec would.

    Args:
        clip: `(frames, size, size, 3)` uint8.
        rng: A `numpy.random.Generator`.
        difficulty: From 0 to 1.5; at 0 the clip is returned unchanged.
        others: Pictures from which passing objects are cut.

    Returns:
        The spoilt clip, of the same shape and type.
    """
    if difficulty <= 0:
        return clip
    if rng.uniform() < 0.5 * difficulty:
        clip = _pass_by(clip, rng, difficulty, others)
    pixels = clip.astype(np.float32)
    if rng.uniform() < 0.25 * difficulty:
        pixels = _soften(pixels)
    if rng.uniform() < 0.6 * difficulty:
        pixels = _recolour(pixels, rng, difficulty)
    pixels = _expose(pixels, rng, difficulty)
    if rng.uniform() < 0.6 * difficulty:
        pixels += _noise(pixels.size, rng).reshape(pixels.shape) * (rng.uniform(0, 8) * difficulty)
    clip = np.clip(pixels + 0.5, 0, 255).astype(np.uint8)
    if rng.uniform() < 0.25 * difficulty:
        clip = _compress(clip, rng)
    return clip


def _pass_by(clip: np.ndarray, rng: np.random.Generator, difficulty: float, others: Sequence[Picture]) -> np.ndarray:
    """Let one or two objects with soft edges cross the picture, or wobble in it, each in a direction of its own."""
    frames, size = clip.shape[:2]
    views = [Image.fromarray(frame) for frame in clip]
    for _ in range(rng.integers(1, 3)):
        picture = others[rng.integers(len(others))]
        # Each covers at most a fifth of the window: a person would take a larger one for the scene itself.
        extent = np.sqrt(rng.uniform(0.02, 0.2) * difficulty) * size
        stretch = rng.uniform(0.6, 1.6)
        width, height = extent * stretch, extent / stretch
        cut = min(picture.width, picture.height) * rng.uniform(0.15, 0.6)
        place = [rng.uniform(cut / 2, total - cut / 2) for total in (picture.width, picture.height)]
        texture = picture.window(place, cut, rng.uniform(-3, 3), size=max(4, int(max(width, height))))
        texture = texture.resize((max(4, int(width)), max(4, int(height))))
        mask = _soft_mask(texture.size, rng)
        displacement = rng.uniform(-1, 1, 2) * rng.choice([0.1, 0.6, 1.2]) * size
        start = rng.uniform(0.1, 0.9, 2) * size - displacement / 2
        growth = rng.uniform(-0.2, 0.2)
        sway, phase = rng.uniform(-0.08, 0.08, 2) * size, rng.uniform(0, 2 * np.pi, 2)
        for i, view in enumerate(views):
            moment = i / (frames - 1)
            scale = np.exp(growth * (moment - 0.5))
            centre = start + displacement * moment + sway * np.sin(phase + 2 * np.pi * moment)
            x, y = centre - np.array(texture.size) * scale / 2
            matrix = (1 / scale, 0, -x / scale, 0, 1 / scale, -y / scale)
            affine = (view.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
            view.paste(texture.transform(*affine), (0, 0), mask.transform(*affine))
    return np.stack([np.asarray(view) for view in views])


def _soft_mask(size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    mask = Image.new("L", size, 0)
    draw = ImageDraw.Draw(mask)
    box = (1, 1, size[0] - 2, size[1] - 2)
    if rng.uniform() < 0.6:
        draw.ellipse(box, fill=255)
    else:
        draw.rounded_rectangle(box, radius=min(size) // 4, fill=255)
    return mask.filter(ImageFilter.BoxBlur(rng.uniform(0, 1.5)))


def _soften(pixels: np.ndarray) -> np.ndarray:
    """Blur as a lens does that is slightly out of focus: by a binomial 3 x 3 kernel."""
    for axis in (1, 2):
        inner = [slice(None)] * 4
        before, after = list(inner), list(inner)
        before[axis], inner[axis], after[axis] = slice(0, -2), slice(1, -1), slice(2, None)
        blurred = pixels.copy()
        blurred[tuple(inner)] = 0.25 * (pixels[tuple(before)] + pixels[tuple(after)]) + 0.5 * pixels[tuple(inner)]
        pixels = blurred
    return pixels


def _recolour(pixels: np.ndarray, rng: np.random.Generator, difficulty: float) -> np.ndarray:
    """Change saturation and white balance, the same in all frames; some clips turn grey or swap their channels."""
    mix = np.eye(3) + rng.normal(size=(3, 3)) * 0.15 * difficulty
    if rng.uniform() < 0.2:
        mix = np.full((3, 3), 1 / 3)
    if rng.uniform() < 0.3:
        mix = mix[:, rng.permutation(3)]
    return (pixels.reshape(-1, 3) @ mix.astype(np.float32)).reshape(pixels.shape)


def _expose(pixels: np.ndarray, rng: np.random.Generator, difficulty: float) -> np.ndarray:
    """Change brightness and contrast, let them drift over the clip, and let single frames flicker."""
    moment = np.linspace(-0.5, 0.5, len(pixels))
    gain = np.exp((rng.uniform(-0.4, 0.3) + rng.uniform(-0.25, 0.25) * moment) * difficulty)
    gain *= 1 + rng.normal(size=len(pixels)) * rng.uniform(0, 0.015) * difficulty
    offset = (rng.uniform(-25, 25) + rng.uniform(-15, 15) * moment) * difficulty
    gain, offset = gain.astype(np.float32)[:, None, None, None], offset.astype(np.float32)[:, None, None, None]
    return (pixels - 120) * gain + 120 + offset


@functools.cache
def _noise_bank() -> np.ndarray:
    # Drawing 100,000 normal numbers takes as long as the rest of a clip; a slice of a long record does not.
    return np.random.default_rng(0).standard_normal(1 << 21, dtype=np.float32)


def _noise(count: int, rng: np.random.Generator) -> np.ndarray:
    bank = _noise_bank()
    repeats = -(-count // (len(bank) // 2))
    starts = rng.integers(len(bank) // 2, size=repeats)
    return np.concatenate([bank[start : start + len(bank) // 2] for start in starts])[:count]


def _compress(clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    quality = int(rng.integers(25, 80))
    frames = []
    for frame in clip:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "JPEG", quality=quality)
        frames.append(np.asarray(Image.open(buffer)))
    return np.stack(frames)
