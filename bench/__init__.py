"""The benchmarks: `make bench`, or `python -m bench --help`. Linux only, as figures come from /proc.

    Stage        a private PostgreSQL and a private Mosquitto; a fresh database and a fresh broker for every run
    Backlog      the same messages for everybody, queued by the broker for a session that is away
    Contestant   who takes a backlog from the broker into the database: ingestd, and what it is compared with
    a figure     (drain.py and so on) has the contestants run in alternation and returns what goes into the JSON

Other work on the machine moves all absolute figures; a ratio is taken within one round, between runs that
follow each other, and the median of the rounds counts.
"""
