"""Prediction topics on ZeroMQ."""
