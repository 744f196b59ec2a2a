-- The write path. {history}, {live} and so on are the tables and columns of one stream.

-- name: prepare_session
-- Once per connection: where batches are staged. Rows live for one transaction.
CREATE TEMPORARY TABLE IF NOT EXISTS {staged} (LIKE {history}, origin integer) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE IF NOT EXISTS {newest} (LIKE {live}) ON COMMIT DELETE ROWS;

-- name: copy_history
-- The fast way: straight into history. Fails as a whole on a key that is there already.
COPY {history} ({columns}) FROM STDIN (FORMAT BINARY)

-- name: copy_staged
-- Aside, where no key can be in the way; each row with the index of the delivery that brought it.
COPY {staged} ({columns}, origin) FROM STDIN (FORMAT BINARY)

-- name: insert_staged
-- The way for redeliveries and for late readings: keeps the row that is there, and says how many rows of each origin
-- were new; counted by RETURNING, as the command tag counts wrong on Citus. What is older than `late_before` makes the
-- device's rollups untrue from its quarter of an hour on, and adds to the running totals. A late register reading is the
-- next one of the register reading before it, whose worth may be another then.
WITH inserted AS (
    INSERT INTO {history} ({columns})
    SELECT {columns} FROM {staged}
    ON CONFLICT ({id}, ts) DO NOTHING
    RETURNING {id}, ts, {energy}, {register}
), late AS (
    SELECT {id} AS id, ts, {energy} AS kwh, {register} AS register FROM inserted WHERE ts < %(late_before)s
), belated AS (
    INSERT INTO {belated} ({id}, ts, kwh)
    SELECT id, ts, kwh FROM late WHERE ts >= (SELECT min(until) FROM running_total WHERE stream = {stream})
), marked AS (
    INSERT INTO {late} ({id}, since)
    SELECT id, min(coalesce(date_bin('15 minutes', before.ts, timestamptz '2000-01-01 00:00+00'), late.quarter))
    FROM (
        SELECT DISTINCT id, date_bin('15 minutes', ts, timestamptz '2000-01-01 00:00+00') AS quarter, register IS NOT NULL AS registered
        FROM late
    ) AS late
    LEFT JOIN LATERAL (
        SELECT ts FROM {history}
        WHERE registered AND {id} = late.id AND ts < late.quarter AND {register} IS NOT NULL
        ORDER BY ts DESC LIMIT 1
    ) AS before ON true
    GROUP BY id, late.quarter::date
)
SELECT origin, count(*)
FROM {staged} JOIN inserted USING ({id}, ts)
GROUP BY origin

-- name: copy_newest
-- The newest row of each device of the batch, on its way to the live table.
COPY {newest} ({columns}) FROM STDIN (FORMAT BINARY)

-- name: merge_live
-- The fast way for live rows, at half the cost of an upsert: one join instead of an index probe and a row lock
-- each. Fails where another writer adds the same device at the same moment; the staged way does not.
MERGE INTO {live} AS live
USING {newest} AS newest ON live.{id} = newest.{id}
WHEN MATCHED AND live.ts < newest.ts THEN UPDATE SET {merged}
WHEN NOT MATCHED THEN INSERT ({columns}) VALUES ({values})

-- name: upsert_live
-- A late reading never overwrites a newer one. At most one row a device, sorted by id by the caller.
INSERT INTO {live} AS live ({columns})
SELECT {columns} FROM {newest}
ON CONFLICT ({id}) DO UPDATE SET {assignments}
WHERE live.ts < excluded.ts

-- name: announced
-- Which readings are late for rollups and totals; holds still for the rest of the transaction.
SELECT ingestd_announced()

-- name: copy_dead_letters
-- In the transaction of their neighbours, so that one COMMIT settles all of a delivery.
COPY dead_letter (received_at, source, stream, topic, payload, reason, detail) FROM STDIN (FORMAT BINARY)

-- name: partition_days
-- Every UTC day that has a partition of our own making, as days since 2000-01-01; others may have any name and bounds.
SELECT to_date(right(child.relname, 8), 'YYYYMMDD') - date '2000-01-01'
FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid
WHERE inhparent = %(history)s::regclass AND child.relname ~ ('^' || %(history)s || '_\d\d\d\d\d\d\d\d$')
