-- Alerts: what the live rows show of devices, which alerts are open, which changes are not delivered yet. All
-- statements read live rows and small tables only.

-- name: take_watch
-- Take over a task, or go on with it. A daemon may do so if it is the task's holder already, or if the holder has not
-- renewed it for longer than `lease`. In the second case the watch begins anew. Returns no row if another daemon holds
-- the task.
INSERT INTO alert_watch AS watch (task, holder, watched_since, watched_at)
VALUES (%(task)s, %(holder)s, %(now)s, %(now)s)
ON CONFLICT (task) DO UPDATE SET
    holder = excluded.holder,
    watched_since = CASE
        WHEN watch.watched_at < excluded.watched_at - %(lease)s::interval THEN excluded.watched_at
        ELSE watch.watched_since
    END,
    watched_at = excluded.watched_at
WHERE watch.holder = excluded.holder OR watch.watched_at < excluded.watched_at - %(lease)s::interval
RETURNING watched_since

-- name: silent_devices
-- Devices with an open alert first, then devices that have been silent for longer than their own limit, or than the
-- limit for all (`bound`, in seconds).
SELECT subject, heard_at, bound, has_alert
FROM (
    SELECT
        live.{id} AS subject,
        received_at AS heard_at,
        extract(epoch FROM coalesce(offline_after, %(offline_after)s::interval))::double precision AS bound,
        open.kind IS NOT NULL AS has_alert
    FROM {live} AS live
    LEFT JOIN device_setting AS own ON own.kind = {stream} AND own.id = live.{id}
    LEFT JOIN alert AS open ON open.kind = %(kind)s AND open.subject = live.{id} AND open.state <> 'cleared'
) AS device
WHERE has_alert
   OR heard_at > %(now)s::timestamptz - %(retired)s::interval AND %(now)s::timestamptz - heard_at > make_interval(secs => bound)
ORDER BY has_alert DESC
LIMIT %(limit)s

-- name: silent_count
-- Count the devices that are silent and have no open alert.
SELECT count(*) AS devices
FROM {live} AS live
LEFT JOIN device_setting AS own ON own.kind = {stream} AND own.id = live.{id}
WHERE received_at > %(now)s::timestamptz - %(retired)s::interval
  AND %(now)s::timestamptz - received_at > coalesce(offline_after, %(offline_after)s::interval)
  AND live.{id} NOT IN (SELECT subject FROM alert WHERE kind = %(kind)s AND state <> 'cleared')

-- name: hot_batteries
-- Vehicles with an open alert first, then vehicles whose battery is too hot. The temperature is NULL if the newest
-- reading is old.
SELECT
    vehicle_id AS subject,
    CASE WHEN received_at > %(now)s::timestamptz - %(fresh)s::interval THEN battery_temp END AS celsius,
    open.kind IS NOT NULL AS has_alert
FROM vehicle_live AS live
LEFT JOIN alert AS open ON open.kind = %(kind)s AND open.subject = live.vehicle_id AND open.state <> 'cleared'
WHERE battery_temp > %(bound)s AND received_at > %(now)s::timestamptz - %(fresh)s::interval OR open.kind IS NOT NULL
ORDER BY has_alert DESC
LIMIT %(limit)s

-- name: hot_count
-- Count the vehicles whose battery is too hot and that have no open alert.
SELECT count(*) AS devices
FROM vehicle_live
WHERE battery_temp > %(bound)s
  AND received_at > %(now)s::timestamptz - %(fresh)s::interval
  AND vehicle_id NOT IN (SELECT subject FROM alert WHERE kind = %(kind)s AND state <> 'cleared')

-- name: open_alerts
-- The pending and active alerts of one kind.
SELECT id, kind, subject, state, since, raised_at, over_since, cleared_at, value, bound, detail
FROM alert
WHERE kind = %(kind)s AND state <> 'cleared'

-- name: heard_devices
-- Those of the devices with a reading in the last `retired`.
SELECT {id} AS id
FROM {live}
WHERE {id} = ANY(%(subjects)s) AND received_at > %(now)s::timestamptz - %(retired)s::interval

-- name: save_alerts
-- Store new and changed alerts, and delete those that are gone. Each change of state goes into the outbox of every
-- channel. If the outbox has a row of the alert already, it is updated and not left as it is: a channel may be deleting
-- it at this moment, and then the new change would be lost.
WITH change AS (
    SELECT *
    FROM jsonb_to_recordset(%(changes)s::jsonb) AS change (
        id bigint, kind text, subject text, state text, since timestamptz, raised_at timestamptz,
        over_since timestamptz, cleared_at timestamptz, value double precision, bound double precision, detail text,
        gone boolean, state_changed boolean
    )
), gone AS (
    DELETE FROM alert USING change WHERE alert.id = change.id AND change.gone
), added AS (
    INSERT INTO alert (kind, subject, state, since, raised_at, over_since, cleared_at, value, bound, detail)
    SELECT kind, subject, state, since, raised_at, over_since, cleared_at, value, bound, detail
    FROM change
    WHERE id IS NULL
    RETURNING id, state
), changed AS (
    UPDATE alert SET
        state = change.state, raised_at = change.raised_at, over_since = change.over_since,
        cleared_at = change.cleared_at, value = change.value, bound = change.bound, detail = change.detail
    FROM change
    WHERE alert.id = change.id AND NOT change.gone AND alert.state <> 'cleared'
    RETURNING alert.id, alert.state, change.state_changed
)
INSERT INTO alert_outbox (channel, alert_id, state)
SELECT channel, id, state
FROM (
    SELECT id, state FROM changed WHERE state_changed
    UNION ALL
    SELECT id, state FROM added WHERE state <> 'pending'
) AS news
CROSS JOIN unnest(%(channels)s::text[]) AS channel
ON CONFLICT (channel, alert_id) DO UPDATE SET state = excluded.state
RETURNING alert_id

-- name: page_alerts
-- One page of active and cleared alerts, the newest first, with ids below the cursor. A filter that is NULL matches
-- everything.
SELECT id, kind, subject, state, since, raised_at, over_since, cleared_at, value, bound, detail
FROM alert
WHERE state <> 'pending'
  AND (%(state)s::text IS NULL OR state = %(state)s)
  AND (%(kind)s::text IS NULL OR kind = %(kind)s)
  AND (%(subject)s::text IS NULL OR subject = %(subject)s)
  AND (%(before)s::bigint IS NULL OR id < %(before)s)
ORDER BY id DESC
LIMIT %(limit)s

-- name: active_alerts
-- Count the active alerts of each kind.
SELECT kind, count(*) AS active FROM alert WHERE state = 'active' GROUP BY kind

-- name: purge_alerts
-- Delete cleared alerts that are past their retention, a limited number at a time.
DELETE FROM alert
WHERE id IN (SELECT id FROM alert WHERE state = 'cleared' AND cleared_at < %(until)s ORDER BY id LIMIT %(limit)s)
RETURNING id

-- name: undelivered_alerts
-- Alerts whose last change a channel has not delivered yet, in the order of their ids. So the newest alert of a device
-- comes last.
SELECT alert.id, kind, subject, alert.state, since, raised_at, over_since, cleared_at, value, bound, detail
FROM alert_outbox AS outbox JOIN alert ON alert.id = outbox.alert_id
WHERE channel = %(channel)s
ORDER BY alert.id
LIMIT %(limit)s

-- name: delivered_alerts
-- Delete what a channel has delivered from its outbox. An alert that has changed since then stays.
DELETE FROM alert_outbox AS outbox
USING unnest(%(ids)s::bigint[], %(states)s::text[]) AS delivered (id, state)
WHERE outbox.channel = %(channel)s AND outbox.alert_id = delivered.id AND outbox.state = delivered.state
RETURNING outbox.alert_id

-- name: deliver_again
-- Put all active alerts into the outbox of a channel that has lost them.
INSERT INTO alert_outbox (channel, alert_id, state)
SELECT %(channel)s, id, state FROM alert WHERE state = 'active'
ON CONFLICT (channel, alert_id) DO NOTHING
RETURNING alert_id
