-- What a series of a vehicle needs apart from energy (device.sql).

-- name: last_socs
-- The last state of charge in each of many ranges (since, until], all of which lie in (start, end].
SELECT (
    SELECT soc FROM vehicle_history
    WHERE vehicle_id = %(id)s AND ts > ingestd_timestamp(since) AND ts <= ingestd_timestamp(until)
      AND ts > %(start)s AND ts <= %(end)s
    ORDER BY ts DESC
    LIMIT 1
) AS soc
FROM unnest(%(since)s::bigint[], %(until)s::bigint[]) WITH ORDINALITY AS asked (since, until, number)
ORDER BY number
