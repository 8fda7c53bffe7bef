"""Fields [C, time, x, y, z] are cut into cubes that last a while; space closes on itself."""

from rawdiff import grid
from rawdiff.adapter import Adapter


class SpaceTimeAdapter(Adapter):
    """A patch is `num_times` long and `width` wide in each direction of space."""

    num_times: int = 2
    width: int = 4

    @property
    def patch_size(self):
        return (self.num_times, self.width, self.width, self.width)

    def axes(self, shape, coordinates):
        space = ("x", "y", "z")
        return grid.regular_axes(("time", *space), shape[1:], self.patch_size, periodic=space)

    def patchify(self, x):
        return grid.patchify(x, self.patch_size)

    def unpatchify(self, patches, shape):
        return grid.unpatchify(patches, shape[1:], self.patch_size)
