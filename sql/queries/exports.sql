-- History handed out as CSV. Windows are half-open: [start, end).

-- name: prepare_export
-- One process, uncompiled: an export is in nobody's way.
SET lock_timeout = '10s';
SET jit = off;
SET max_parallel_workers_per_gather = 0;
-- One device is read along its key, also from tables of which the planner knows nothing yet.
SET enable_sort = off

-- name: has_sent
-- Whether a device is known.
SELECT FROM {live} WHERE {id} = %(device_id)s

-- name: export
-- One device in order of time, which its key gives for nothing; all devices day by day and in the order in which they
-- are stored, as sorting would take as much room as they do. COPY takes no parameters: psycopg writes them into the
-- text, so the planner sees constants, and no trace of the ORDER BY is left where no device was named.
COPY (
    SELECT
        {id} AS {id_key},
        replace((ts AT TIME ZONE 'UTC')::text, ' ', 'T') || 'Z' AS "timestamp",
        {figures},
        replace((received_at AT TIME ZONE 'UTC')::text, ' ', 'T') || 'Z' AS "receivedAt"
    FROM {history}
    WHERE ts >= %(start)s AND ts < %(end)s AND (%(device_id)s::text IS NULL OR {id} = %(device_id)s)
    ORDER BY CASE WHEN %(device_id)s::text IS NOT NULL THEN ts END
) TO STDOUT (FORMAT CSV, HEADER)
