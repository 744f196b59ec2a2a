-- Vehicles that are judged by a threshold of their own.

-- name: threshold
-- That of one vehicle.
SELECT threshold FROM vehicle_threshold WHERE vehicle_id = %(vehicle_id)s

-- name: set_threshold
-- From now on, also of the past: nothing that is judged by it is stored.
INSERT INTO vehicle_threshold (vehicle_id, threshold)
VALUES (%(vehicle_id)s, %(threshold)s)
ON CONFLICT (vehicle_id) DO UPDATE SET threshold = excluded.threshold
RETURNING threshold

-- name: remove_threshold
-- The vehicle is judged like all others again.
DELETE FROM vehicle_threshold WHERE vehicle_id = %(vehicle_id)s RETURNING threshold
