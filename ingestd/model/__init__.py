"""What the house is about, without any input or output."""
