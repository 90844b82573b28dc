"""The photographs of the camera-motion example: those for training, and those that are held out from it."""

import importlib.util
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

from examples.camera_motion.windowed_picture import Picture

# Held out are a portrait of an animal, a building in a landscape, a night scene, a texture and a grey still life; they
# were chosen before any model was trained. Drawings, test charts and pictures under 150 pixels are left out.
TRAINING = (
    "skimage/data/astronaut.png",
    "skimage/data/brick.png",
    "skimage/data/camera.png",
    "skimage/data/coffee.png",
    "skimage/data/grass.png",
    "skimage/data/hubble_deep_field.jpg",
    "skimage/data/ihc.png",
    "skimage/data/moon.png",
    "skimage/data/motorcycle_left.png",
    "skimage/data/motorcycle_right.png",
    "skimage/data/page.png",
    "skimage/data/retina.jpg",
    "skimage/data/text.png",
    "sklearn/datasets/images/flower.jpg",
)
HELD_OUT = (
    "skimage/data/chelsea.png",
    "sklearn/datasets/images/china.jpg",
    "skimage/data/rocket.jpg",
    "skimage/data/gravel.png",
    "skimage/data/coins.png",
)
REMEDY = 'install what the example needs: pip install "keras-video-focalnet[demo]"'


def installed_file(name: str) -> pathlib.Path:
    """Find a file that an installed package carries, without importing the package.

    Args:
        name: Its path, starting with the package: `"skimage/data/coffee.png"`.

    Returns:
        The path of the file.

    Raises:
        FileNotFoundError: If the package or the file is not there.
    """
    package, _, rest = name.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise FileNotFoundError(f"{name}: the package {package} is not installed; {REMEDY}")
    path = pathlib.Path(spec.submodule_search_locations[0]) / rest
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing from the installed {package}; {REMEDY}")
    return path


def load_photographs(names: Iterable[str]) -> list[np.ndarray]:
    """Read photographs, `(height, width, 3)` uint8 each; very large ones are halved."""
    photographs = []
    for name in names:
        with Image.open(installed_file(name)) as image:
            image = image.convert("RGB")
        photographs.append(np.asarray(image.reduce(2) if min(image.size) > 800 else image))
    return photographs


def vary_photographs(photographs: Sequence[np.ndarray], count: int, rng: np.random.Generator) -> list[Picture]:
    """Make many different pictures of few photographs, by rotating, zooming, recolouring, blending and blurring them.

    Args:
        photographs: Photographs, `(height, width, 3)` uint8 each.
        count: How many to make.
        rng: A `numpy.random.Generator`.

    Returns:
        The pictures, the photographs themselves first.
    """
    originals = [Picture(photograph) for photograph in photographs]
    return originals + [_variant(originals, rng) for _ in range(count)]


def _variant(originals: Sequence[Picture], rng: np.random.Generator, size: int = 384) -> Picture:
    kind = rng.uniform()
    base = _sparse_scene(originals, rng, size) if kind > 0.45 else _excerpt(originals, rng, size)
    if kind < 0.15:  # A double exposure.
        opacity = rng.uniform(0.3, 0.7)
        base = base * opacity + _excerpt(originals, rng, size) * (1 - opacity)
    elif kind < 0.4:  # Several scenes side by side.
        for _ in range(rng.integers(1, 4)):
            base = _collage(base, _excerpt(originals, rng, size), rng)
    if rng.uniform() < 0.5:
        mix = np.eye(3) + rng.normal(size=(3, 3)) * 0.3
        base = base @ (mix / np.abs(mix.sum(0))).astype(np.float32)
    if rng.uniform() < 0.15:
        base = 255 - base
    base = 255 * (np.clip(base, 0, 255) / 255) ** rng.uniform(0.6, 1.6)
    image = Image.fromarray(base.astype(np.uint8))
    if rng.uniform() < 0.3:  # Out of focus.
        blurred = int(size / rng.uniform(1.5, 5))
        image = image.resize((blurred, blurred), Image.Resampling.BOX).resize((size, size), Image.Resampling.BICUBIC)
    return Picture(np.asarray(image))


def _excerpt(originals: Sequence[Picture], rng: np.random.Generator, size: int) -> np.ndarray:
    """Cut a rotated, zoomed window out of one photograph, and mirror it in half of the cases."""
    picture = originals[rng.integers(len(originals))]
    side = min(picture.width, picture.height) * np.exp(rng.uniform(np.log(0.35), np.log(1.0)))
    angle = rng.uniform(-np.pi, np.pi) if rng.uniform() < 0.5 else 0.0
    if angle:
        side = min(side, min(picture.width, picture.height) / (abs(np.cos(angle)) + abs(np.sin(angle))))
    reach = side * (abs(np.cos(angle)) + abs(np.sin(angle))) / 2
    centre = [rng.uniform(reach, max(reach, total - reach)) for total in (picture.width, picture.height)]
    view = np.asarray(picture.window(centre, side, angle, size), np.float32)
    return view[:, ::-1] if rng.uniform() < 0.5 else view


def _sparse_scene(originals: Sequence[Picture], rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw a few bars and ovals, cut from photographs, before a bare background such as a sky."""
    y, x = np.mgrid[0:size, 0:size] / size - 0.5
    angle, colours = rng.uniform(0, 2 * np.pi), rng.uniform(0, 255, (2, 3))
    gradient = (0.5 + x * np.cos(angle) + y * np.sin(angle))[..., None].clip(0, 1)
    if rng.uniform() < 0.5:
        colours[1] = np.clip(colours[0] + rng.uniform(-40, 40, 3), 0, 255)
    scene = colours[0] * gradient + colours[1] * (1 - gradient)
    for _ in range(rng.integers(4, 14)):
        angle, centre = rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)]), rng.uniform(-0.5, 0.5, 2)
        along = (x - centre[0]) * np.cos(angle) + (y - centre[1]) * np.sin(angle)
        across = (y - centre[1]) * np.cos(angle) - (x - centre[0]) * np.sin(angle)
        length, width = rng.uniform(0.03, 0.35), rng.uniform(0.008, 0.08)
        if rng.uniform() < 0.7:
            distance = np.maximum(abs(along) - length, abs(across) - width)
        else:
            distance = (np.hypot(along / length, across / width) - 1) * width
        mask = np.clip(0.5 - distance * size / rng.uniform(1, 4), 0, 1)[..., None]
        scene = scene * (1 - mask) + _excerpt(originals, rng, size) * mask
    return (scene + rng.normal(size=scene.shape) * rng.uniform(0, 6)).astype(np.float32)


def _collage(base: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Put `other` on one side of a random line, or within a random ellipse."""
    size = base.shape[0]
    y, x = np.mgrid[0:size, 0:size] / size - 0.5
    if rng.uniform() < 0.5:
        angle = rng.uniform(0, 2 * np.pi)
        distance = x * np.cos(angle) + y * np.sin(angle) - rng.uniform(-0.2, 0.2)
    else:
        cx, cy, rx, ry = (*rng.uniform(-0.4, 0.4, 2), *rng.uniform(0.1, 0.35, 2))
        distance = 0.2 * (((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 - 1)
    mask = np.clip(distance * size / rng.uniform(1, 6) + 0.5, 0, 1)[..., None].astype(np.float32)
    return base * mask + other * (1 - mask)
