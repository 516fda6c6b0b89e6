"""Geometry and the top-down view: rig, poses, grid, view transform, cast-out, occupancy."""
