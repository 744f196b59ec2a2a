-- Which meter feeds which vehicle, and since when. Segments are half-open: [valid_from, valid_to), open where
-- valid_to is NULL. Those of a vehicle never overlap.

-- name: mappings_of_vehicle
-- All segments of a vehicle, the newest first.
SELECT vehicle_id, meter_id, valid_from, valid_to
FROM vehicle_meter_mapping
WHERE vehicle_id = %(vehicle_id)s
ORDER BY valid_from DESC

-- name: lock_vehicle
-- One change of a vehicle's mapping at a time; released with the transaction.
SELECT pg_advisory_xact_lock(hashtext('ingestd-mapping'), hashtext(%(vehicle_id)s))

-- name: segment_as_asked
-- The segment that is asked for, where it is there already; one asked for from now on may have begun before.
SELECT vehicle_id, meter_id, valid_from, valid_to
FROM vehicle_meter_mapping
WHERE vehicle_id = %(vehicle_id)s
  AND meter_id = %(meter_id)s
  AND (valid_from = %(valid_from)s OR (%(from_now)s AND valid_from < %(valid_from)s))
  AND valid_to IS NOT DISTINCT FROM %(valid_to)s::timestamptz

-- name: segments_in_the_way
-- All that a new segment would overlap, but for the open one that began before it: that ends where it begins.
SELECT vehicle_id, meter_id, valid_from, valid_to
FROM vehicle_meter_mapping
WHERE vehicle_id = %(vehicle_id)s
  AND valid_from < coalesce(%(valid_to)s::timestamptz, 'infinity')
  AND coalesce(valid_to, 'infinity') > %(valid_from)s
  AND (valid_to IS NOT NULL OR valid_from >= %(valid_from)s)
ORDER BY valid_from

-- name: add_part_after
-- The part behind a new segment of the one that goes on there; first of the three steps that make way.
INSERT INTO vehicle_meter_mapping (vehicle_id, meter_id, valid_from, valid_to)
SELECT vehicle_id, meter_id, %(valid_to)s::timestamptz, valid_to
FROM vehicle_meter_mapping
WHERE vehicle_id = %(vehicle_id)s
  AND valid_from < %(valid_to)s::timestamptz
  AND coalesce(valid_to, 'infinity') > %(valid_to)s::timestamptz

-- name: remove_begun_within
-- Of what begins in the time of a new segment nothing is left, unless it resumes behind it.
DELETE FROM vehicle_meter_mapping
WHERE vehicle_id = %(vehicle_id)s
  AND valid_from >= %(valid_from)s
  AND valid_from < coalesce(%(valid_to)s::timestamptz, 'infinity')

-- name: end_before
-- What began before a new segment and holds when it begins ends there.
UPDATE vehicle_meter_mapping SET valid_to = %(valid_from)s
WHERE vehicle_id = %(vehicle_id)s
  AND valid_from < %(valid_from)s
  AND coalesce(valid_to, 'infinity') > %(valid_from)s

-- name: add_segment
-- The caller has made way for it.
INSERT INTO vehicle_meter_mapping (vehicle_id, meter_id, valid_from, valid_to)
VALUES (%(vehicle_id)s, %(meter_id)s, %(valid_from)s, %(valid_to)s)
RETURNING vehicle_id, meter_id, valid_from, valid_to

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
