"""The commands of `ingestd`: one module each."""
