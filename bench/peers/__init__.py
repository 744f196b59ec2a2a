"""What ingestd is compared with: the programs that many projects of this kind consist of, written with care."""
