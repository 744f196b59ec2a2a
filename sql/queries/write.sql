-- The write path. {history}, {live} and so on are tables and columns of one stream.

-- name: prepare_session
-- Once per connection: temporary tables into which batches are staged. Their rows are deleted at the end of each
-- transaction.
CREATE TEMPORARY TABLE IF NOT EXISTS {staged} (LIKE {history}) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE IF NOT EXISTS {newest} (LIKE {live}) ON COMMIT DELETE ROWS;

-- name: copy_history
-- The optimistic way: COPY straight into history. It fails as a whole if one key exists already.
COPY {history} ({columns}) FROM STDIN (FORMAT BINARY)

-- name: copy_staged
-- COPY into the temporary table, which has no keys.
COPY {staged} ({columns}) FROM STDIN (FORMAT BINARY)

-- name: insert_staged
-- The way for redeliveries and for readings of closed quarters: a row that exists stays, and RETURNING says which rows
-- are new. The command tag is not used to count them, because it is wrong on Citus.
INSERT INTO {history} ({columns})
SELECT {columns} FROM {staged}
ON CONFLICT ({id}, ts) DO NOTHING
RETURNING {id}, ingestd_microseconds(ts)

-- name: mark_stale
-- Mark closed quarters for which a reading was stored.
INSERT INTO {stale} ({id}, start)
SELECT id, ingestd_timestamp(start) FROM unnest(%(ids)s::text[], %(starts)s::bigint[]) AS mark (id, start)

-- name: copy_newest
-- COPY the newest row of each device of the batch into a temporary table, for the live table.
COPY {newest} ({columns}) FROM STDIN (FORMAT BINARY)

-- name: merge_live
-- The optimistic way for live rows. It takes half the time of an upsert: one join instead of an index lookup and a row
-- lock for each row. It fails if another transaction adds the same device at the same time; the staged way does not.
MERGE INTO {live} AS live
USING {newest} AS newest ON live.{id} = newest.{id}
WHEN MATCHED AND live.ts < newest.ts THEN UPDATE SET {merged}
WHEN NOT MATCHED THEN INSERT ({columns}) VALUES ({values})

-- name: upsert_live
-- The staged way for live rows, and on Citus the only way. An older reading never overwrites a newer one. The caller sorts the rows by id, at most
-- one for each device, so that two writers cannot deadlock.
INSERT INTO {live} AS live ({columns})
SELECT {columns} FROM {newest}
ON CONFLICT ({id}) DO UPDATE SET {assignments}
WHERE live.ts < excluded.ts

-- name: is_distributed
-- Whether Citus has distributed the live table: there is no MERGE there.
SELECT ingestd_is_distributed(%(live)s::regclass)

-- name: live_devices
-- The ids of all devices with a live row, in one text: no id has a space, and 100,000 rows would take longer to read.
SELECT string_agg({id}, ' ') FROM {live}

-- name: closed_until
-- Up to where quarters are closed. This does not change until the transaction ends.
SELECT ingestd_closed_until()

-- name: copy_dead_letters
-- COPY the dead letters in the same transaction as the readings, so that one COMMIT settles a whole delivery.
COPY dead_letter (received_at, source, stream, topic, payload, reason, detail) FROM STDIN (FORMAT BINARY)

-- name: partition_days
-- The UTC days that have a partition made by ingestd, as days since 2000-01-01. Partitions of others may have any name
-- and bounds.
SELECT to_date(right(child.relname, 8), 'YYYYMMDD') - date '2000-01-01'
FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid
WHERE inhparent = %(history)s::regclass AND child.relname ~ ('^' || %(history)s || '_\d\d\d\d\d\d\d\d$')
