-- Which daemon holds which session of the broker. A daemon has one connection for all its locks.

-- name: limit_idle
-- End this connection, and with it the locks, when the daemon has asked nothing for this long: it hangs, or its machine
-- is gone.
SELECT set_config('idle_session_timeout', %(milliseconds)s::text, false)

-- name: join
-- Become a member of the group: the daemons with the same client id. The first key is a constant of ingestd ("inge" in
-- ASCII, plus two), so that locks of other programs do not collide with it.
SELECT pg_try_advisory_lock_shared(1768843111, hashtext(%(daemon)s))

-- name: members
-- The members of the group, by the process id of their backends.
SELECT pid, pid = pg_backend_pid() AS is_me
FROM pg_locks
WHERE locktype = 'advisory' AND granted AND objsubid = 2
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND classid = 1768843111 AND objid::bigint = hashtext(%(daemon)s)::bigint & 4294967295

-- name: holders
-- The backend that holds each session: of those asked for, and of those that the broker keeps.
SELECT session.client_id, bool_or(session.exists) AS exists, min(held.pid) AS pid
FROM (
    SELECT unnest(%(client_ids)s::text[]) AS client_id, false AS exists
    UNION ALL
    SELECT client_id, true FROM broker_session WHERE daemon = %(daemon)s
) AS session
LEFT JOIN pg_locks AS held
    ON held.locktype = 'advisory' AND held.granted AND held.objsubid = 2
    AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND held.classid = 1768843109 AND held.objid::bigint = hashtext(session.client_id)::bigint & 4294967295
GROUP BY session.client_id

-- name: take
-- Try to get the lock of a session. The first key is a constant of ingestd ("inge" in ASCII).
SELECT pg_try_advisory_lock(1768843109, hashtext(%(client_id)s))

-- name: give
-- Give the lock of a session back.
SELECT pg_advisory_unlock(1768843109, hashtext(%(client_id)s))

-- name: begin_session
-- Note that the broker will keep this session.
INSERT INTO broker_session (client_id, daemon) VALUES (%(client_id)s, %(daemon)s)
ON CONFLICT (client_id) DO UPDATE SET daemon = excluded.daemon

-- name: end_session
-- Note that the broker keeps this session no more.
DELETE FROM broker_session WHERE client_id = %(client_id)s
