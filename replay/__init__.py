"""Drives in; recordings, pictures and comparisons out."""
