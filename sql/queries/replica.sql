-- A replica for reading: how far it is behind its primary. Positions are bytes of the write-ahead log.

-- name: primary_position
-- The position up to which the log is on the disk of the primary: what is committed lies before it.
SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint AS position

-- name: replica_position
-- The position up to which the replica shows the log; and, of a standby, when the last transaction in it was committed.
SELECT
    pg_wal_lsn_diff(
        CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END, '0/0'
    )::bigint AS position,
    CASE WHEN pg_is_in_recovery() THEN pg_last_xact_replay_timestamp() END AS committed_at
