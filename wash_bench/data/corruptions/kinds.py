"""What each corruption of ImageNet-C does to a batch of images.

Every function takes images (B, H, W, C), float64 in [0, 1], H = W, the strength of one severity and
a random stream, and returns such images, which the caller clips. The rules are those of Hendrycks
and Dietterich's published code; ``glass_blur`` copies a pixel's neighbour over it where the paper
speaks of a swap, as that code does in effect, and ``frost`` has no photographs to lay over the
images: a random field stands in for them, so that its numbers are not ImageNet-C's.
"""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.random import Generator
from scipy import ndimage

if TYPE_CHECKING:
    import torch

Images = np.ndarray
Mode = Literal["mirror", "reflect"]  # of the border
LUMA = (0.299, 0.587, 0.114)


def gaussian_noise(x: Images, deviation: float, stream: Generator) -> Images:
    """Normal noise on every value."""
    return x + stream.normal(scale=deviation, size=x.shape)


def shot_noise(x: Images, photons: float, stream: Generator) -> Images:
    """Poisson noise of so many photons at full brightness."""
    return stream.poisson(x * photons) / photons


def impulse_noise(x: Images, share: float, stream: Generator) -> Images:
    """Salt and pepper on a share of the values, half and half."""
    hit, salt = stream.random(x.shape) < share, stream.random(x.shape) < 0.5
    return np.where(hit, salt.astype(x.dtype), x)


def defocus_blur(x: Images, strength: tuple[float, float], stream: Generator) -> Images:
    """The mean over a disk, its edge softened."""
    import torch
    from torch.nn.functional import conv2d, pad

    kernel = torch.from_numpy(_disk(*strength)).float()
    half = len(kernel) // 2
    around = pad(_planes(x), (half, half, half, half), mode="reflect")
    return _images(conv2d(around, kernel[None, None]), x)


def _planes(x: Images) -> torch.Tensor:
    """(B C, 1, H, W) float32, for torch's kernels."""
    import torch

    return torch.from_numpy(x.transpose(0, 3, 1, 2).reshape(-1, 1, *x.shape[1:3])).float()


def _images(planes: torch.Tensor, like: Images) -> Images:
    """What ``_planes`` was made of."""
    b, _, _, channels = like.shape
    found = planes.double().numpy().reshape(b, channels, *planes.shape[2:])
    return found.transpose(0, 2, 3, 1)


def _disk(radius: float, softness: float) -> np.ndarray:
    reach = max(8, math.ceil(radius))  # the published grid; a smaller one adds weight at its edge
    steps = np.arange(-reach, reach + 1.0)
    disk = (steps[:, None] ** 2 + steps**2 <= radius**2).astype(np.float64)
    around = np.arange(-1.0, 2.0) if radius <= 8 else np.arange(-2.0, 3.0)
    taps = np.exp(-(around**2) / (2 * softness**2))
    taps /= taps.sum()
    disk = ndimage.correlate1d(disk / disk.sum(), taps, axis=0, mode="mirror")
    disk = ndimage.correlate1d(disk, taps, axis=1, mode="mirror")
    edge = reach - int(np.abs(steps[disk.any(axis=0)]).max())  # zeros, which small images lack
    return disk[edge : len(disk) - edge, edge : len(disk) - edge]


def glass_blur(x: Images, strength: tuple[float, int, int], stream: Generator) -> Images:
    """Pixels replaced by neighbours at random, between two Gaussian blurs."""
    sigma, reach, rounds = strength
    pixels = np.floor(np.clip(_gaussian(x, sigma), 0, 1) * 255)
    side, everybody = x.shape[1], np.arange(len(x))
    places = range(side - reach, reach, -1)
    size = (rounds, len(places), len(places), 2, len(x))
    steps = stream.integers(-reach, reach, size=size, dtype=np.int8)
    for turn in steps:
        for h, of_row in zip(places, turn, strict=True):
            for w, (down, right) in zip(places, of_row, strict=True):
                pixels[:, h, w] = pixels[everybody, h + down.astype(int), w + right.astype(int)]
    return _gaussian(pixels / 255, sigma)


def _gaussian(x: Images, sigma: float) -> Images:
    return ndimage.gaussian_filter(x, (0, sigma, sigma, 0), mode="nearest")


def motion_blur(x: Images, strength: tuple[float, float], stream: Generator) -> Images:
    """A one-sided Gaussian trail in a direction of -45 to 45 degrees."""
    return _trail(x, *strength, stream.uniform(-45, 45, len(x)))


def _trail(x: Images, radius: float, sigma: float, degrees: np.ndarray) -> Images:
    """ImageMagick's motion blur: taps along a line, the border's pixels going on beyond it."""
    steps = np.arange(2 * math.ceil(radius) + 1)
    taps = np.exp(-(steps**2) / (2 * sigma**2))
    taps /= taps.sum()
    reach, side = len(steps), x.shape[1]
    around = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
    angles = np.deg2rad(degrees)[:, None]
    rights, downs = (
        np.ceil(steps * part(angles) - 0.5).astype(int) + reach for part in (np.cos, np.sin)
    )
    out = np.zeros_like(x)
    for image, wide, right, down in zip(out, around, rights, downs, strict=True):
        for tap, r, d in zip(taps, right, down, strict=True):
            image += tap * wide[d : d + side, r : r + side]
    return out


def zoom_blur(x: Images, strength: tuple[float, float], stream: Generator) -> Images:
    """The mean of the picture and of enlargements of it."""
    end, step = strength
    factors = np.arange(1, end, step)
    return (x + sum(_zoomed(x, factor) for factor in factors)) / (len(factors) + 1)


def _zoomed(x: Images, factor: float) -> Images:
    """The middle of the images, enlarged to their size, corners on corners."""
    from torch.nn.functional import interpolate

    side = x.shape[1]
    kept = math.ceil(side / factor)
    first = (side - kept) // 2
    middle = x[:, first : first + kept, first : first + kept]
    size = (round(kept * factor),) * 2
    large = _images(interpolate(_planes(middle), size, mode="bilinear", align_corners=True), x)
    first = (large.shape[1] - side) // 2
    return large[:, first : first + side, first : first + side]


def snow(x: Images, strength: tuple[float, ...], stream: Generator) -> Images:
    """Flakes with trails, over a picture that is paler."""
    mean, deviation, zoom, threshold, radius, sigma, share = strength
    flakes = _zoomed(stream.normal(mean, deviation, (*x.shape[:3], 1)), zoom)
    flakes = np.floor(np.clip(np.where(flakes < threshold, 0, flakes), 0, 1) * 255) / 255
    flakes = _trail(flakes, radius, sigma, stream.uniform(-135, -45, len(x)))
    grey = x @ np.array(LUMA)[:, None] if x.shape[3] == 3 else x
    pale = share * x + (1 - share) * np.maximum(x, grey * 1.5 + 0.5)
    return pale + flakes + flakes[:, ::-1, ::-1]


def frost(x: Images, strength: tuple[float, float], stream: Generator) -> Images:
    """A bright random field over a darker picture, in place of ImageNet-C's photographs."""
    of_picture, of_frost = strength
    return of_picture * x + of_frost * _plasma(stream, len(x), x.shape[1], 1.75)[..., None]


def fog(x: Images, strength: tuple[float, float], stream: Generator) -> Images:
    """A smooth random field added, the brightest value kept."""
    amount, decay = strength
    brightest = x.max(axis=(1, 2, 3), keepdims=True)
    field = _plasma(stream, len(x), x.shape[1], decay)[..., None]
    return (x + amount * field) * brightest / (brightest + amount)


def _plasma(stream: Generator, count: int, side: int, decay: float) -> np.ndarray:
    """Random fields (count, side, side) in [0, 1] by diamond and square steps on a torus."""
    size = 2 ** math.ceil(math.log2(side))
    grid = np.zeros((count, size, size))
    step, wobble = size, 100.0

    def middle(total: np.ndarray) -> np.ndarray:
        return total / 4 + wobble * stream.uniform(-wobble, wobble, total.shape)

    while step >= 2:
        half = step // 2
        corners = grid[:, ::step, ::step]
        pairs = corners + np.roll(corners, -1, axis=1)
        grid[:, half::step, half::step] = middle(pairs + np.roll(pairs, -1, axis=2))
        centres, corners = grid[:, half::step, half::step], grid[:, ::step, ::step]
        for across, along in ((1, 2), (2, 1)):
            total = centres + np.roll(centres, 1, axis=across)
            total = total + corners + np.roll(corners, -1, axis=along)
            rows, columns = (0, half) if across == 1 else (half, 0)
            grid[:, rows::step, columns::step] = middle(total)
        step, wobble = half, wobble / decay
    grid -= grid.min(axis=(1, 2), keepdims=True)
    grid /= grid.max(axis=(1, 2), keepdims=True)
    return grid[:, :side, :side]


def brightness(x: Images, more: float, stream: Generator) -> Images:
    """More value in the sense of HSV; hue and saturation stay."""
    value = x.max(axis=3, keepdims=True)
    raised = np.clip(value + more, 0, 1)
    return np.where(value > 0, x / np.where(value > 0, value, 1) * raised, raised)


def contrast(x: Images, kept: float, stream: Generator) -> Images:
    """Nearer to the mean of each channel."""
    mean = x.mean(axis=(1, 2), keepdims=True)
    return (x - mean) * kept + mean


def elastic_transform(x: Images, strength: tuple[float, ...], stream: Generator) -> Images:
    """A random affine map, then smooth random displacements."""
    amount, sigma, shift = (part * x.shape[1] for part in strength)
    return np.stack([_elastic(image, amount, sigma, shift, stream) for image in x])


def _elastic(
    image: np.ndarray, amount: float, sigma: float, shift: float, stream: Generator
) -> np.ndarray:
    side = image.shape[0]
    centre, arm = side // 2, side // 3
    corners = centre + arm * np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    moved = corners + stream.uniform(-shift, shift, corners.shape)
    back = np.linalg.solve(np.c_[moved, np.ones(3)], corners)  # from a place to where it came from
    down, right = np.mgrid[:side, :side].astype(np.float64)
    source = np.stack([right, down, np.ones_like(down)], axis=2) @ back
    image = _sampled(image, source[..., 1], source[..., 0], "mirror")
    sideways, upright = (
        amount * ndimage.gaussian_filter(
            stream.uniform(-1, 1, (side, side)), sigma, mode="reflect", truncate=3
        )
        for _ in range(2)
    )  # fmt: skip
    return _sampled(image, down + upright, right + sideways, "reflect")


def _sampled(image: np.ndarray, down: np.ndarray, right: np.ndarray, mode: Mode) -> np.ndarray:
    planes = [
        ndimage.map_coordinates(image[..., channel], (down, right), order=1, mode=mode)
        for channel in range(image.shape[2])
    ]
    return np.stack(planes, axis=2)


def pixelate(x: Images, scale: float, stream: Generator) -> Images:
    """Fewer and larger pixels."""
    from PIL import Image

    side = x.shape[1]
    small = max(1, int(side * scale))
    box = Image.Resampling.BOX
    return _by_pillow(x, lambda image: image.resize((small, small), box).resize((side, side), box))


def jpeg_compression(x: Images, quality: int, stream: Generator) -> Images:
    """Through a JPEG file and back."""
    from PIL import Image

    def there_and_back(image: Any) -> Any:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return _by_pillow(x, there_and_back)


def _by_pillow(x: Images, change: Any) -> Images:
    from PIL import Image

    pixels = np.rint(x * 255).astype(np.uint8)
    if x.shape[3] == 1:
        pixels = pixels[..., 0]
    changed = [np.asarray(change(Image.fromarray(image))) for image in pixels]
    return np.stack(changed).reshape(x.shape) / 255
