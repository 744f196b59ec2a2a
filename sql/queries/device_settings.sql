-- Settings of single devices.

-- name: device_settings
-- The settings of one device.
SELECT threshold, offline_after, max_kw FROM device_setting WHERE kind = %(kind)s AND id = %(id)s

-- name: lock_settings
-- Allow one change of a device's settings at a time. The lock is released when the transaction ends.
SELECT pg_advisory_xact_lock(hashtext('ingestd-settings'), hashtext(%(id)s))

-- name: set_device_settings
-- Store all settings of a device. They hold from now on, also for answers about the past.
INSERT INTO device_setting (kind, id, threshold, offline_after, max_kw)
VALUES (%(kind)s, %(id)s, %(threshold)s, %(offline_after)s, %(max_kw)s)
ON CONFLICT (kind, id) DO UPDATE SET
    threshold = excluded.threshold, offline_after = excluded.offline_after, max_kw = excluded.max_kw

-- name: remove_device_settings
-- Delete the settings of a device; the settings for all hold again.
DELETE FROM device_setting WHERE kind = %(kind)s AND id = %(id)s

-- name: mark_device
-- Mark the whole ledger of a device to be made anew, because its maximum power has changed.
INSERT INTO {stale} ({id}, start) VALUES (%(id)s, '-infinity')
