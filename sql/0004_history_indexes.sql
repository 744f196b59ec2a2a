-- Indexes for what the analytics ask of history.
--
-- On a live system: they take some seconds for each day of history there is. Meanwhile everything can be read, and
-- readings wait with the broker to be stored. Apart from 0002, whose locks would hold up readers too.

-- Register readings of a device in order; empty, and free of cost, where none sends any.
CREATE INDEX meter_history_register ON meter_history (meter_id, ts) WHERE kwh_consumed_ac_register IS NOT NULL;
CREATE INDEX vehicle_history_register ON vehicle_history (vehicle_id, ts) WHERE kwh_delivered_dc_register IS NOT NULL;
-- Readings of all devices in a stretch of time: rows lie about in the order of time, so a summary of each run
-- of blocks is enough, and costs a write next to nothing.
CREATE INDEX meter_history_ts ON meter_history USING brin (ts) WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX vehicle_history_ts ON vehicle_history USING brin (ts) WITH (pages_per_range = 32, autosummarize = on);
