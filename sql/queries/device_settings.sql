-- What is set for single devices.

-- name: device_settings
-- Of one device.
SELECT threshold, offline_after FROM device_setting WHERE kind = %(kind)s AND id = %(id)s

-- name: set_device_settings
-- All of them at once. They hold from now on, also for the past: nothing that is judged by them is stored.
INSERT INTO device_setting (kind, id, threshold, offline_after)
VALUES (%(kind)s, %(id)s, %(threshold)s, %(offline_after)s)
ON CONFLICT (kind, id) DO UPDATE SET threshold = excluded.threshold, offline_after = excluded.offline_after
RETURNING threshold, offline_after

-- name: remove_device_settings
-- The device is like all others again.
DELETE FROM device_setting WHERE kind = %(kind)s AND id = %(id)s RETURNING threshold, offline_after
