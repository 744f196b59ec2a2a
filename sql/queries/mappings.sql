-- Which meter feeds which vehicle, and when. Segments are half-open, [valid_from, valid_to), and open if valid_to is
-- NULL. The segments of one vehicle never overlap.

-- name: mappings_of_vehicle
-- All segments of a vehicle, the newest first.
SELECT vehicle_id, meter_id, valid_from, valid_to
FROM vehicle_meter_mapping
WHERE vehicle_id = %(vehicle_id)s
ORDER BY valid_from DESC

-- name: lock_vehicle
-- Allow one change of a vehicle's mapping at a time. The lock is released when the transaction ends.
SELECT pg_advisory_xact_lock(hashtext('ingestd-mapping'), hashtext(%(vehicle_id)s))

-- name: segment_as_asked
-- The segment that is asked for, if it exists. A segment asked for from now on may have begun earlier.
SELECT vehicle_id, meter_id, valid_from, valid_to
FROM vehicle_meter_mapping
WHERE vehicle_id = %(vehicle_id)s
  AND meter_id = %(meter_id)s
  AND (valid_from = %(valid_from)s OR (%(from_now)s AND valid_from < %(valid_from)s))
  AND valid_to IS NOT DISTINCT FROM %(valid_to)s::timestamptz

-- name: segments_in_the_way
-- All segments that a new one would overlap, except the open one that began earlier: that one ends where the new one
-- begins.
SELECT vehicle_id, meter_id, valid_from, valid_to
FROM vehicle_meter_mapping
WHERE vehicle_id = %(vehicle_id)s
  AND valid_from < coalesce(%(valid_to)s::timestamptz, 'infinity')
  AND coalesce(valid_to, 'infinity') > %(valid_from)s
  AND (valid_to IS NOT NULL OR valid_from >= %(valid_from)s)
ORDER BY valid_from

-- name: add_part_after
-- Insert the part of an overlapped segment that lies after the new one. This is the first of three steps that make
-- room.
INSERT INTO vehicle_meter_mapping (vehicle_id, meter_id, valid_from, valid_to)
SELECT vehicle_id, meter_id, %(valid_to)s::timestamptz, valid_to
FROM vehicle_meter_mapping
WHERE vehicle_id = %(vehicle_id)s
  AND valid_from < %(valid_to)s::timestamptz
  AND coalesce(valid_to, 'infinity') > %(valid_to)s::timestamptz

-- name: remove_begun_within
-- Delete segments that begin in the time of the new one. Their part after it was inserted before.
DELETE FROM vehicle_meter_mapping
WHERE vehicle_id = %(vehicle_id)s
  AND valid_from >= %(valid_from)s
  AND valid_from < coalesce(%(valid_to)s::timestamptz, 'infinity')

-- name: end_before
-- End the segment that began before the new one where the new one begins.
UPDATE vehicle_meter_mapping SET valid_to = %(valid_from)s
WHERE vehicle_id = %(vehicle_id)s
  AND valid_from < %(valid_from)s
  AND coalesce(valid_to, 'infinity') > %(valid_from)s

-- name: add_segment
-- Insert the new segment, after there is room for it.
INSERT INTO vehicle_meter_mapping (vehicle_id, meter_id, valid_from, valid_to)
VALUES (%(vehicle_id)s, %(meter_id)s, %(valid_from)s, %(valid_to)s)
RETURNING vehicle_id, meter_id, valid_from, valid_to

-- name: close_segment
-- End the open segment. If it would end before it begins, delete it.
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
