-- What `ingestd status` shows of the database. Each statement reads a bounded number of rows.

-- name: top_talkers
-- The devices with the most readings of the last 10 minutes, and how many readings were looked at, which has a limit.
SELECT {id} AS device_id, count(*) AS readings, (sum(count(*)) OVER ())::bigint AS looked_at
FROM (
    SELECT {id}
    FROM {history}
    WHERE ts > now() - interval '10 minutes' AND ts <= now()
    LIMIT %(rows)s
) AS recent
GROUP BY {id}
ORDER BY readings DESC, {id}
LIMIT %(limit)s

-- name: recent_letters
-- How many dead letters of each reason came in the last hour.
SELECT reason, count(*) AS letters
FROM (SELECT reason FROM dead_letter WHERE received_at > now() - interval '1 hour' LIMIT %(rows)s) AS recent
GROUP BY reason
ORDER BY reason
