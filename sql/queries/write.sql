-- The write path. {history}, {live} and so on are the tables and columns of one stream.

-- name: prepare_session
-- Once per connection: where batches are staged. Rows live for one transaction.
CREATE TEMPORARY TABLE IF NOT EXISTS {staged} (LIKE {history}) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE IF NOT EXISTS {newest} (LIKE {live}) ON COMMIT DELETE ROWS;

-- name: copy_history
-- The fast way: straight into history. Fails as a whole on a key that is there already.
COPY {history} ({columns}) FROM STDIN (FORMAT BINARY)

-- name: copy_staged
-- Aside, where no key can be in the way.
COPY {staged} ({columns}) FROM STDIN (FORMAT BINARY)

-- name: insert_staged
-- The way for redeliveries and for readings of closed quarters: keeps the row that is there, and tells which are new.
-- They are counted by what RETURNING tells, as the command tag counts wrong on Citus.
INSERT INTO {history} ({columns})
SELECT {columns} FROM {staged}
ON CONFLICT ({id}, ts) DO NOTHING
RETURNING {id}, ingestd_microseconds(ts)

-- name: mark_stale
-- Closed quarters that have readings more now.
INSERT INTO {stale} ({id}, start)
SELECT id, ingestd_timestamp(start) FROM unnest(%(ids)s::text[], %(starts)s::bigint[]) AS mark (id, start)

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

-- name: closed_until
-- Up to when quarters are closed; holds still for the rest of the transaction.
SELECT ingestd_closed_until()

-- name: copy_dead_letters
-- In the transaction of their neighbours, so that one COMMIT settles all of a delivery.
COPY dead_letter (received_at, source, stream, topic, payload, reason, detail) FROM STDIN (FORMAT BINARY)

-- name: partition_days
-- Every UTC day that has a partition of our own making, as days since 2000-01-01; others may have any name and bounds.
SELECT to_date(right(child.relname, 8), 'YYYYMMDD') - date '2000-01-01'
FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid
WHERE inhparent = %(history)s::regclass AND child.relname ~ ('^' || %(history)s || '_\d\d\d\d\d\d\d\d$')
