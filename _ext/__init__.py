"""Cython kernels: arrays in, arrays out. They know no Octobev type, no file and no log."""
