"""Predictions on ZeroMQ topics: wire format, publisher and subscriber. Needs numpy, pyzmq and msgspec only."""
