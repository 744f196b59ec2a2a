-- Who of several daemons is the active one.

-- name: try_lock
-- Two keys: a constant of ours ("inge" in ASCII), so as not to meet other programs' locks, and the client id.
SELECT pg_try_advisory_lock(1768843109, hashtext(%(client_id)s))

-- name: still_there
-- Answered means that the connection lives, and the lock with it.
SELECT 1
