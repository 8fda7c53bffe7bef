"""The picture shows where points lie on the plane."""

from pathlib import Path

import numpy as np
import torch
from rawdiff_toy.plane import projection
from rawdiff_toy.spiral import Spiral
from rawdiff_toy.writer import OUTSIDE, POINT, SIDE, VIEW, PlaneWriter, draw_points

from rawdiff.data.arrays import ArrayDataset


def coloured(points: list[tuple[float, float]], colour: tuple[int, int, int]) -> np.ndarray:
    """Middle of the pixels of one colour as x, y of the plane; empty where there are none."""
    pixels = np.asarray(draw_points(np.array(points)))
    rows, columns = np.nonzero((np.abs(pixels.astype(int) - colour) < 40).all(-1))
    if not len(rows):
        return np.empty(0)
    x, y = columns.mean() + 0.5, SIDE - 0.5 - rows.mean()
    return (np.array([x, y]) / SIDE * 2 - 1) * VIEW


def test_a_point_stands_at_its_place() -> None:
    place = (-1.5, 2.2)
    assert np.allclose(coloured([place], POINT), place, atol=0.03)
    assert not coloured([place], OUTSIDE).size


def test_a_point_outside_stands_on_the_edge_in_another_colour() -> None:
    assert not coloured([(-100.0, 100.0)], POINT).size
    without_text = np.asarray(draw_points(np.array([(-100.0, 100.0)])))[: SIDE // 2, : SIDE // 2]
    assert (np.abs(without_text.astype(int) - OUTSIDE) < 40).all(-1).any()


def test_points_are_seen_on_their_plane(tmp_path: Path) -> None:
    """Not along the first two of the D axes."""
    q = projection(64)
    samples = (torch.tensor([[1.0, -2.0]]).double() @ q.T).float()[..., None].numpy()
    writer, info = PlaneWriter(), Spiral(num_dims=64).info
    image = writer.draw(samples, info=info)
    assert np.array_equal(image, draw_points(np.array([(1.0, -2.0)])))
    archive, _ = writer.write(samples, tmp_path, info=info)
    assert np.array_equal(ArrayDataset(path=archive)[0].x, samples[0])
