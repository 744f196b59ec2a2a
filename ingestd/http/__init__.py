"""The HTTP API, on aiohttp. The routes of each subject are a module of their own; routes.py lists them."""
