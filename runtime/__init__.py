"""From frames to predictions to topics."""
