"""The runtime in somebody else's process: frames as cameras deliver them in, predictions and health out."""
