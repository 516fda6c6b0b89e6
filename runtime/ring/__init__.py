"""Frames between processes: a ring of slots in shared memory, one writer, several readers. Needs numpy only."""
