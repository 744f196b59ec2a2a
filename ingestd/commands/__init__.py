"""What `ingestd` can be told to do: one module a command."""
