-- What is set for single devices.

-- name: device_settings
-- Of one device.
SELECT threshold, offline_after, max_kw FROM device_setting WHERE kind = %(kind)s AND id = %(id)s

-- name: lock_settings
-- One change of a device's settings at a time; released with the transaction.
SELECT pg_advisory_xact_lock(hashtext('ingestd-settings'), hashtext(%(id)s))

-- name: set_device_settings
-- All of them at once. They hold from now on, also for the past.
INSERT INTO device_setting (kind, id, threshold, offline_after, max_kw)
VALUES (%(kind)s, %(id)s, %(threshold)s, %(offline_after)s, %(max_kw)s)
ON CONFLICT (kind, id) DO UPDATE SET
    threshold = excluded.threshold, offline_after = excluded.offline_after, max_kw = excluded.max_kw

-- name: remove_device_settings
-- The device is like all others again.
DELETE FROM device_setting WHERE kind = %(kind)s AND id = %(id)s

-- name: mark_device
-- Its ledger has to be made anew, from the beginning, as how much can flow is another now.
INSERT INTO {stream_name}_stale ({id}, start) VALUES (%(id)s, '-infinity')
