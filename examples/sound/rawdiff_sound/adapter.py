"""Sound [C, values] is cut into pieces along time."""

from rawdiff import grid
from rawdiff.adapter import Adapter


class SoundAdapter(Adapter):
    """`num_values` lie in each patch."""

    num_values: int = 128

    def axes(self, shape, coordinates):
        return grid.regular_axes(("time",), shape[1:], (self.num_values,))

    def patchify(self, x):
        return grid.patchify(x, (self.num_values,))

    def unpatchify(self, patches, shape):
        return grid.unpatchify(patches, shape[1:], (self.num_values,))
