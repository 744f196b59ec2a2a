"""The MQTT side: one session with the broker, kept across connections."""
