"""Between the sources and the store: a bounded Buffer, and the Flusher that empties it. No I/O library in sight.

source ── put(Delivery) ──> Buffer ── take() ──> Flusher ── write(Batch) ──> Store
   ^                                                │
   └──────────── settle(deliveries) ────────────────┘   after the commit, in the order of receipt
"""
