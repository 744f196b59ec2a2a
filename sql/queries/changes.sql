-- Which live rows have changed since the last look; `GET /v1/stream` reads them.

-- name: versions
-- The version of each live row, by pages in the order of the key: the id and the time of its newest reading, which
-- changes with each change of the row. They come as one text, because 10,000 rows would take longer to read.
SELECT string_agg(id || ' ' || ingestd_microseconds(ts), ',') AS versions, max(id) AS last
FROM (
    SELECT {id} AS id, ts
    FROM {live}
    WHERE {id} > %(after)s
    ORDER BY {id}
    LIMIT %(limit)s
) AS page

-- name: newest_of
-- The newest readings of some devices.
SELECT {columns} FROM {live} WHERE {id} = ANY(%(ids)s::text[])
