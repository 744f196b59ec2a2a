-- Puts days of history into the archive, and compares them with it.

-- name: sums
-- Count and sums of the readings of one day: for each column how many values there are, their sum, the least and the
-- greatest. Ids are summed by their length, times as microseconds since 2000. The table is the partition itself, which
-- may be detached already.
SELECT {sums} FROM {history}
