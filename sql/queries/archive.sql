-- Puts days of history into the archive, and compares them with it.

-- name: sums
-- Count and sums of the readings of one day: for each column how many values there are, their sum, the least and the
-- greatest. Ids are summed by their length, times as microseconds since 2000. The table is the partition itself, which
-- may be detached already.
SELECT {sums} FROM {history}

-- name: in_order
-- COPY of the readings in order of time.
COPY (
    SELECT
        {id} AS {id_key},
        replace((ts AT TIME ZONE 'UTC')::text, ' ', 'T') || 'Z' AS "timestamp",
        {figures},
        replace((received_at AT TIME ZONE 'UTC')::text, ' ', 'T') || 'Z' AS "receivedAt"
    FROM {history}
    WHERE ts >= %(start)s AND ts < %(end)s AND (%(device_id)s::text IS NULL OR {id} = %(device_id)s)
    ORDER BY ts, {id}
) TO STDOUT (FORMAT CSV, HEADER)
