"""The demo, and private servers for tests and benchmarks. The daemon never imports it."""
