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
SELECT client_id, kept.client_id IS NOT NULL AS exists, kept.shared_group, min(held.pid) AS pid
FROM unnest(%(client_ids)s::text[]) AS asked (client_id)
FULL JOIN (SELECT client_id, shared_group FROM broker_session WHERE daemon = %(daemon)s) AS kept USING (client_id)
LEFT JOIN pg_locks AS held
    ON held.locktype = 'advisory' AND held.granted AND held.objsubid = 2
    AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND held.classid = 1768843109 AND held.objid::bigint = hashtext(client_id)::bigint & 4294967295
GROUP BY client_id, kept.client_id, kept.shared_group

-- name: take
-- Try to get the lock of a session. The first key is a constant of ingestd ("inge" in ASCII).
SELECT pg_try_advisory_lock(1768843109, hashtext(%(client_id)s))

-- name: give
-- Give the lock of a session back.
SELECT pg_advisory_unlock(1768843109, hashtext(%(client_id)s))

-- name: begin_session
-- Note that the broker will keep this session.
INSERT INTO broker_session (client_id, daemon, shared_group)
VALUES (%(client_id)s, %(daemon)s, %(shared_group)s)
ON CONFLICT (client_id) DO UPDATE SET daemon = excluded.daemon, shared_group = excluded.shared_group

-- name: end_session
-- Note that the broker keeps this session no more.
DELETE FROM broker_session WHERE client_id = %(client_id)s
