-- Exports history as CSV. Windows are half-open: [start, end).

-- name: prepare_export
-- Settings for the connection of an export. Without parallel workers and JIT it takes little from other queries.
SET lock_timeout = '10s';
SET jit = off;
SET max_parallel_workers_per_gather = 0;
-- One device is read by the primary key, also if the tables have no statistics yet.
SET enable_sort = off

-- name: hold
-- Where there is an archive. One snapshot for the whole export, and a lock that keeps retention from finishing a drop: so
-- what is not in the archive when the export begins is in the table until its end. The lock is waited for before the
-- snapshot is taken, by the next statement.
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
LOCK TABLE ONLY {history} IN ACCESS SHARE MODE

-- name: has_sent
-- Whether a device is known: it has a live row.
SELECT FROM {live} WHERE {id} = %(device_id)s

-- name: divide_export
-- The times that divide an export of all devices: where a partition begins. An export in order is sorted day by day. On
-- Citus each export is divided: it collects all rows of a COPY before it sends the first.
SELECT bounds[1]::timestamptz AS at
FROM pg_inherits
JOIN pg_class AS child ON child.oid = inhrelid
CROSS JOIN regexp_match(pg_get_expr(relpartbound, child.oid), 'FROM \(''(.+)''\) TO') AS bounds
WHERE inhparent = '{history}'::regclass AND (%(in_order)s OR ingestd_is_distributed(inhparent))
  AND bounds[1]::timestamptz > %(start)s AND bounds[1]::timestamptz < %(end)s AND %(device_id)s::text IS NULL
ORDER BY at

-- name: export
-- COPY of readings in order of time (the archive, a merge with it, or who publishes them again); else of one device in
-- order of time, or of all devices in the order in which they are stored. One device is read by its key, which has that
-- order; sorting all devices would need as much disk space as the export has. COPY takes no parameters: psycopg writes
-- them into the text as constants, so the planner removes what is constant from the ORDER BY.
COPY (
    SELECT
        {id} AS {id_key},
        replace((ts AT TIME ZONE 'UTC')::text, ' ', 'T') || 'Z' AS "timestamp",
        {figures},
        replace((received_at AT TIME ZONE 'UTC')::text, ' ', 'T') || 'Z' AS "receivedAt"
    FROM {history}
    WHERE ts >= %(start)s AND ts < %(end)s AND (%(device_id)s::text IS NULL OR {id} = %(device_id)s)
    ORDER BY
        CASE WHEN %(in_order)s OR %(device_id)s::text IS NOT NULL THEN ts END,
        CASE WHEN %(in_order)s THEN {id} END
) TO STDOUT (FORMAT CSV, HEADER)
