"""The domain: readings, energy, alerts. No input or output."""
