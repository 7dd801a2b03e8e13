"""Where to put the names of points, so that they cover neither each other nor the points."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ANGLES = np.deg2rad([0, 180, 90, 270, 45, 135, 315, 225])
_DISTANCES = (1.0, 1.8, 3.0, 4.5, 6.5)


def place(
    points: NDArray[np.float64],
    sizes: NDArray[np.float64],
    bounds: tuple[float, float, float, float],
    *,
    gap: float,
    obstacles: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Lower left corners (n, 2) of labels with `sizes` (n, 2) for `points` (n, 2), in one unit.

    Greedy, in the order given: every label takes the nearest of 40 positions around its point that
    covers least of the labels placed before and of `obstacles` (m, 4: left, bottom, right, top),
    and stays inside `bounds` (likewise). `gap` is the distance from the point to a near label.
    """
    corners = np.zeros_like(points)
    for i, (point, size) in enumerate(zip(points, sizes, strict=True)):
        options = _options(point, size, gap)
        boxes = np.concatenate([options, options + size], axis=1)
        covered = _overlap(boxes, obstacles).sum(axis=1)
        outside = size.prod() - _overlap(boxes, np.array([bounds]))[:, 0]
        # Half a percent of the label's area a step: enough to prefer the nearest of equal ones.
        distance = 0.005 * size.prod() * np.arange(len(options))
        corners[i] = options[np.argmin(covered + 4 * outside + distance)]
        label = np.concatenate([corners[i], corners[i] + size])
        obstacles = np.concatenate([obstacles, label[None, :]])
    return corners


def along(
    start: NDArray[np.float64], end: NDArray[np.float64], width: float
) -> NDArray[np.float64]:
    """Boxes (k, 4) that cover a line from `start` (2,) to `end` (2,), about `width` wide."""
    num = int(np.ceil(np.hypot(*(end - start)) / (2 * width))) + 1
    centres = np.linspace(start, end, num)
    return np.concatenate([centres - width / 2, centres + width / 2], axis=1)


def _options(
    point: NDArray[np.float64], size: NDArray[np.float64], gap: float
) -> NDArray[np.float64]:
    """Corners (40, 2), nearest first: the label's nearest edge lies `gap` · distance away."""
    found = []
    for distance in _DISTANCES:
        for angle in _ANGLES:
            direction = np.array([np.cos(angle), np.sin(angle)])
            centre = point + direction * gap * distance + np.sign(direction.round(9)) * size / 2
            found.append(centre - size / 2)
    return np.array(found)


def _overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Common area (n, m) of boxes a (n, 4) and b (m, 4), each left, bottom, right, top."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.clip(high - low, 0, None).prod(axis=2)
