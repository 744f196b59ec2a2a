-- Cumulative registers beside intervals, and rollups by the quarter of an hour.
--
-- On a live system: adding nullable columns and lifting NOT NULL touch the catalogue alone.

ALTER TABLE meter_history ALTER COLUMN kwh_consumed_ac DROP NOT NULL;
ALTER TABLE meter_history ADD COLUMN kwh_consumed_ac_register double precision;  -- kWh, cumulative
ALTER TABLE meter_live ALTER COLUMN kwh_consumed_ac DROP NOT NULL;
ALTER TABLE meter_live ADD COLUMN kwh_consumed_ac_register double precision;
ALTER TABLE vehicle_history ALTER COLUMN kwh_delivered_dc DROP NOT NULL;
ALTER TABLE vehicle_history ADD COLUMN kwh_delivered_dc_register double precision;  -- kWh, cumulative
ALTER TABLE vehicle_live ALTER COLUMN kwh_delivered_dc DROP NOT NULL;
ALTER TABLE vehicle_live ADD COLUMN kwh_delivered_dc_register double precision;

-- One step of a cumulative register: which part of the reading is energy. This is the only place where it is
-- decided. A state is {mark, at, kwh, resets, excluded}: the highest accepted value of the current epoch (kWh),
-- when the last good reading was taken (seconds since 1970), and what this step counts.
CREATE FUNCTION ingestd_register_step(
    state double precision[],
    value double precision,       -- kWh
    taken double precision,       -- seconds since 1970
    next_value double precision,  -- of the device's next register reading; NULL while there is none
    next_taken double precision,
    mark_before double precision, -- the state that all earlier readings left, for the first step; NULL where
    taken_before double precision,-- there are none
    plausible_kw double precision
) RETURNS double precision[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    mark  double precision := coalesce(state[1], mark_before);
    since double precision := coalesce(state[2], taken_before);
    most  double precision;  -- kWh that can have flowed since the last good reading
BEGIN
    IF mark IS NULL THEN
        RETURN ARRAY[value, taken, 0, 0, 0];
    END IF;
    IF value <= mark AND (value >= 0.9 * mark OR mark - value <= 0.2) THEN  -- a dip, or nothing new
        RETURN ARRAY[mark, taken, 0, 0, 0];
    END IF;
    most := plausible_kw * (taken - since) / 3600;
    IF value > mark THEN
        IF value - mark <= most THEN
            RETURN ARRAY[value, taken, value - mark, 0, 0];
        ELSIF next_value IS NULL OR next_value <= mark + plausible_kw * (next_taken - since) / 3600 THEN  -- a spike
            RETURN ARRAY[mark, since, 0, 0, 1];
        END IF;
        RETURN ARRAY[value, taken, 0, 0, 1];  -- a change of level
    ELSIF next_value IS NULL OR next_value >= 0.9 * mark THEN  -- a glitch
        RETURN ARRAY[mark, since, 0, 0, 1];
    END IF;
    RETURN ARRAY[value, taken, CASE WHEN value <= most THEN value ELSE 0 END, 1, 0];  -- a reset
END;
$$;

CREATE AGGREGATE ingestd_register(
    double precision, double precision, double precision, double precision,
    double precision, double precision, double precision
) (
    SFUNC = ingestd_register_step,
    STYPE = double precision[],
    PARALLEL = SAFE
);

-- The first `length` elements of an array whose last element holds from there on, or `otherwise` where it has none.
CREATE FUNCTION ingestd_first(elements anycompatiblearray, length integer, otherwise anycompatible)
RETURNS anycompatiblearray
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN coalesce(cardinality(elements), 0) = 0 THEN array_fill(otherwise, ARRAY[length])
        WHEN cardinality(elements) >= length THEN elements[1:length]
        ELSE elements || array_fill(elements[cardinality(elements)], ARRAY[length - cardinality(elements)])
    END
$$;

-- The rollups: one row for each device and UTC day, in arrays by the quarter of an hour. Element i holds what is
-- so at the end of the day's i-th quarter; sums run from midnight, so that any stretch of quarters is one
-- subtraction. An array ends with the last quarter that has readings: what follows is as its last element.
CREATE TABLE meter_day (
    meter_id   text COLLATE "C"    NOT NULL,
    day        date                NOT NULL,
    -- What sums over the whole fleet read stands in front: to get at a column, PostgreSQL goes through those before it.
    cadence    real,                          -- seconds between readings as a rule; NULL while unknown
    -- Of devices with a register; NULL for all others.
    mark       double precision[],            -- kWh
    mark_at    double precision[],            -- seconds since 1970
    resets     integer[],                     -- running count
    excluded   integer[],                     -- running count
    kwh        double precision[]  NOT NULL,  -- running sum, kWh
    samples    integer[]           NOT NULL,  -- running count
    averaged   double precision[]  NOT NULL,  -- running sum of the voltage, V
    PRIMARY KEY (meter_id, day)
) WITH (fillfactor = 60, toast_tuple_target = 8160);
CREATE INDEX meter_day_day ON meter_day (day);

CREATE TABLE vehicle_day (
    vehicle_id text COLLATE "C"    NOT NULL,
    day        date                NOT NULL,
    cadence    real,
    mark       double precision[],
    mark_at    double precision[],
    resets     integer[],
    excluded   integer[],
    kwh        double precision[]  NOT NULL,
    samples    integer[]           NOT NULL,
    averaged   double precision[]  NOT NULL,  -- of the battery's temperature, degrees Celsius
    PRIMARY KEY (vehicle_id, day)
) WITH (fillfactor = 60, toast_tuple_target = 8160);
CREATE INDEX vehicle_day_day ON vehicle_day (day);

-- Devices of which readings came after their quarter was rolled up: from that quarter on their rollups are not to be
-- trusted.
CREATE TABLE meter_late (meter_id text COLLATE "C" NOT NULL, since timestamptz NOT NULL);
CREATE INDEX meter_late_device ON meter_late (meter_id, since);
CREATE TABLE vehicle_late (vehicle_id text COLLATE "C" NOT NULL, since timestamptz NOT NULL);
CREATE INDEX vehicle_late_device ON vehicle_late (vehicle_id, since);

-- How far the rollups have come. A reading older than `announced` is late and says so in the table above, in the
-- transaction that stores it; whatever lies before `settled` and is not late can be had from the rollups.
CREATE TABLE rollup (
    stream       text         PRIMARY KEY,
    announced    timestamptz  NOT NULL DEFAULT '-infinity',
    settled      timestamptz  NOT NULL DEFAULT '-infinity',
    plausible_kw double precision  -- with which registers were read
);
INSERT INTO rollup (stream) VALUES ('meter'), ('vehicle');

-- What counts as late, for the transaction that asks: for each stream the microseconds since 2000-01-01 before which
-- readings are late, null where none is. The lock holds the announcement of a later moment up until the transaction
-- has ended.
CREATE FUNCTION ingestd_announced() RETURNS jsonb
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(1768843110, 0);
    -- A statement of its own, so that it sees what was committed while the lock was waited for.
    RETURN (
        SELECT jsonb_object_agg(
            stream,
            CASE WHEN isfinite(announced)
                THEN (extract(epoch FROM announced - timestamptz '2000-01-01 00:00+00') * 1000000)::bigint
            END
        )
        FROM rollup
    );
END;
$$;

-- What is set for single devices; NULL: as for all others. The device need not have reported.
CREATE TABLE device_setting (
    kind          text              NOT NULL,  -- the stream
    id            text COLLATE "C"  NOT NULL,
    threshold     double precision  CHECK (threshold > 0 AND threshold <= 1),  -- at a 2.3 kW socket, 80 % is healthy
    offline_after interval          CHECK (offline_after > interval '0'),
    max_kw        double precision  CHECK (max_kw > 0 AND max_kw <= 1000000),
    PRIMARY KEY (kind, id)
);

-- What is to be thought of a vehicle's figures; the one place where it is decided.
CREATE FUNCTION ingestd_status(
    mapped boolean,
    ac_kwh double precision,
    dc_kwh double precision,
    coverage double precision,  -- the lesser of the vehicle's and its meters'
    threshold double precision,
    min_kwh double precision,
    min_coverage double precision
) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN NOT mapped THEN 'unmapped'
        WHEN ac_kwh <= 0 OR ac_kwh < min_kwh OR coverage <= 0 OR coverage < min_coverage THEN 'insufficient-data'
        WHEN dc_kwh > ac_kwh THEN 'implausible'
        WHEN dc_kwh / ac_kwh < threshold THEN 'below-threshold'
        ELSE 'ok'
    END
$$;
