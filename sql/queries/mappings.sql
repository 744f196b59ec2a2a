-- Which meter feeds which vehicle, and since when.

-- name: mappings_of_vehicle
-- All segments of a vehicle, the newest first.
SELECT vehicle_id, meter_id, valid_from, valid_to
FROM vehicle_meter_mapping
WHERE vehicle_id = %(vehicle_id)s
ORDER BY valid_from DESC

-- name: lock_vehicle
-- One change of a vehicle's mapping at a time; released with the transaction.
SELECT pg_advisory_xact_lock(hashtext('ingestd-mapping'), hashtext(%(vehicle_id)s))

-- name: segments_in_the_way
-- What a segment open from valid_from would overlap, beside an earlier open one, which it ends.
SELECT vehicle_id, meter_id, valid_from, valid_to
FROM vehicle_meter_mapping
WHERE vehicle_id = %(vehicle_id)s AND (valid_from >= %(valid_from)s OR valid_to > %(valid_from)s)
ORDER BY valid_from

-- name: open_segment
-- The segment that holds until further notice, if any.
SELECT vehicle_id, meter_id, valid_from, valid_to
FROM vehicle_meter_mapping
WHERE vehicle_id = %(vehicle_id)s AND valid_to IS NULL

-- name: close_segment
-- End the open segment; one that would end before it starts is void and goes.
WITH void AS (
    DELETE FROM vehicle_meter_mapping
    WHERE vehicle_id = %(vehicle_id)s AND valid_to IS NULL AND valid_from >= %(valid_to)s
    RETURNING vehicle_id, meter_id, valid_from, valid_to
), closed AS (
    UPDATE vehicle_meter_mapping SET valid_to = %(valid_to)s
    WHERE vehicle_id = %(vehicle_id)s AND valid_to IS NULL AND valid_from < %(valid_to)s
    RETURNING vehicle_id, meter_id, valid_from, valid_to
)
SELECT * FROM void UNION ALL SELECT * FROM closed

-- name: add_segment
-- Open until further notice; the caller has made way for it.
INSERT INTO vehicle_meter_mapping (vehicle_id, meter_id, valid_from)
VALUES (%(vehicle_id)s, %(meter_id)s, %(valid_from)s)
RETURNING vehicle_id, meter_id, valid_from, valid_to
