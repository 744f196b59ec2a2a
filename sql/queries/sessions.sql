-- What charging sessions of a vehicle need apart from energy (device.sql).

-- name: meters_of_vehicle
-- Segments of the vehicle's mapping that overlap (start, end].
SELECT meter_id AS device, ingestd_microseconds(valid_from) AS start, ingestd_microseconds(valid_to) AS end
FROM vehicle_meter_mapping
WHERE vehicle_id = %(vehicle_id)s
  AND valid_from < %(end)s AND coalesce(valid_to, 'infinity') > %(start)s
ORDER BY valid_from

-- name: other_vehicles
-- Segments of other vehicles that a meter feeds and that overlap (start, end].
SELECT vehicle_id AS device, ingestd_microseconds(valid_from) AS start, ingestd_microseconds(valid_to) AS end
FROM vehicle_meter_mapping
WHERE meter_id = %(meter_id)s AND vehicle_id <> %(vehicle_id)s
  AND valid_from < %(end)s AND coalesce(valid_to, 'infinity') > %(start)s
ORDER BY valid_from, vehicle_id

-- name: session_socs
-- For each session: the state of charge at its start, or of its first reading, and at its end; and the time of the
-- vehicle's newest reading.
SELECT
    coalesce(
        (
            SELECT soc FROM vehicle_history
            WHERE vehicle_id = %(vehicle_id)s AND ts <= ingestd_timestamp(start) ORDER BY ts DESC LIMIT 1
        ),
        (
            SELECT soc FROM vehicle_history
            WHERE vehicle_id = %(vehicle_id)s AND ts > ingestd_timestamp(start) AND ts <= ingestd_timestamp("end")
            ORDER BY ts LIMIT 1
        )
    ) AS soc_from,
    (
        SELECT soc FROM vehicle_history
        WHERE vehicle_id = %(vehicle_id)s AND ts <= ingestd_timestamp("end") ORDER BY ts DESC LIMIT 1
    ) AS soc_to,
    (SELECT ingestd_microseconds(ts) FROM vehicle_live WHERE vehicle_id = %(vehicle_id)s) AS newest
FROM unnest(%(start)s::bigint[], %(end)s::bigint[]) WITH ORDINALITY AS session (start, "end", number)
ORDER BY number
