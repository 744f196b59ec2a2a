-- Forgets a device: one transaction of these statements and of those that delete its settings.

-- name: live_row_to_forget
-- Lock the live row. Says whether the device still reports: it was heard within its own limit, or the limit for all. If
-- a reading is being stored at this moment, this waits for it.
SELECT
    received_at,
    received_at > now() - coalesce(
        (SELECT own.offline_after FROM device_setting AS own WHERE own.kind = {stream} AND own.id = %(id)s),
        %(offline_after)s::interval
    ) AS still_reports
FROM {live}
WHERE {id} = %(id)s
FOR UPDATE

-- name: remove_live_row
-- Delete the live row. A reading that is stored after this makes another one.
DELETE FROM {live} WHERE {id} = %(id)s

-- name: end_alerts
-- Clear the active alerts, and let the channels know. Delete all others, but for those whose last change is not
-- delivered yet. Returns how many alerts there were.
WITH of_device AS (
    SELECT id, state FROM alert WHERE subject = %(id)s AND kind = ANY(%(kinds)s::text[])
), cleared AS (
    UPDATE alert SET state = 'cleared', cleared_at = %(now)s, detail = 'the device was forgotten'
    WHERE id IN (SELECT id FROM of_device WHERE state = 'active')
    RETURNING id
), news AS (
    INSERT INTO alert_outbox (channel, alert_id, state)
    SELECT channel, id, 'cleared' FROM cleared CROSS JOIN unnest(%(channels)s::text[]) AS channel
    ON CONFLICT (channel, alert_id) DO UPDATE SET state = excluded.state
), removed AS (
    DELETE FROM alert
    WHERE id IN (SELECT id FROM of_device WHERE state <> 'active')
      AND NOT EXISTS (SELECT FROM alert_outbox WHERE alert_id = alert.id)
    RETURNING id
)
SELECT (SELECT count(*) FROM cleared) + (SELECT count(*) FROM removed) AS alerts
