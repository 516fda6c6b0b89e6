"""The reference bundle and the code that trains and exports it."""
