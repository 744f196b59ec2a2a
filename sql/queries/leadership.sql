-- Which of several daemons is the active one.

-- name: try_lock
-- Try to get the advisory lock of a client id. The first key is a constant of ingestd ("inge" in ASCII), so that locks
-- of other programs do not collide with it.
SELECT pg_try_advisory_lock(1768843109, hashtext(%(client_id)s))

-- name: still_there
-- Check that the connection is alive. While it is, the session holds the lock.
SELECT 1
