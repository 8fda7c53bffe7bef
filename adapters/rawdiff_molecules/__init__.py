"""Molecules and proteins: densities on a lattice, backbones, distance maps, and their files."""
