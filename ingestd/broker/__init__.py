"""Sets up a Mosquitto broker for ingestd: certificates, accounts, configuration. The daemon does not need it."""
