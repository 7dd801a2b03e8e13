"""Label placement, against boxes that are easy to check."""

from __future__ import annotations

import numpy as np

from diet_ray.report.labels import _overlap, along, place

FRAME = (0.0, 0.0, 640.0, 380.0)


def boxes(corners: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    return np.concatenate([corners, corners + sizes], axis=1)


def test_a_lone_label_stands_right_of_its_point() -> None:
    point = np.array([[100.0, 100.0]])
    corners = place(point, np.array([[40.0, 10.0]]), FRAME, gap=6, obstacles=np.empty((0, 4)))
    np.testing.assert_allclose(corners, [[106.0, 95.0]])


def test_labels_cover_neither_each_other_nor_the_points() -> None:
    generator = np.random.default_rng(3)
    points = generator.uniform([40, 40], [600, 340], size=(26, 2))
    sizes = np.column_stack([generator.uniform(25, 70, 26), np.full(26, 10.0)])
    marks = np.concatenate([points - 4, points + 4], axis=1)
    placed = boxes(place(points, sizes, FRAME, gap=6, obstacles=marks), sizes)
    mutual = _overlap(placed, placed)
    np.fill_diagonal(mutual, 0)
    area = sizes.prod(axis=1).sum()
    assert mutual.sum() < 0.01 * area
    assert _overlap(placed, marks).sum() < 0.01 * area
    assert (placed[:, :2] >= 0).all()
    assert (placed[:, 2:] <= FRAME[2:]).all()


def test_a_crowd_is_not_stacked_on_one_spot() -> None:
    points = np.full((12, 2), 200.0) + np.arange(12)[:, None]
    sizes = np.tile([50.0, 10.0], (12, 1))
    marks = np.concatenate([points - 4, points + 4], axis=1)
    placed = boxes(place(points, sizes, FRAME, gap=6, obstacles=marks), sizes)
    mutual = _overlap(placed, placed)
    np.fill_diagonal(mutual, 0)
    assert mutual.max() < 0.15 * 500


def test_a_line_is_covered_from_end_to_end() -> None:
    line = along(np.array([0.0, 0.0]), np.array([30.0, 40.0]), width=3.0)
    np.testing.assert_allclose(line[0], [-1.5, -1.5, 1.5, 1.5])
    np.testing.assert_allclose(line[-1], [28.5, 38.5, 31.5, 41.5])
    steps = np.diff(line[:, :2], axis=0)
    assert (np.hypot(*steps.T) <= 6.0 + 1e-9).all()
    assert along(np.zeros(2), np.zeros(2), width=3.0).shape == (1, 4)


def test_a_label_avoids_a_line() -> None:
    point = np.array([[100.0, 100.0]])
    size = np.array([[40.0, 10.0]])
    line = along(np.array([60.0, 100.0]), np.array([200.0, 100.0]), width=3.0)
    placed = boxes(place(point, size, FRAME, gap=6, obstacles=line), size)
    assert _overlap(placed, line).sum() == 0
