"""What only the demo, the tests and the benchmarks need; the daemon itself never imports it."""
