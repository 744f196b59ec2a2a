"""The HTTP side, on aiohttp: ingestion, analytics, mappings, health, metrics. Routes are thin."""
