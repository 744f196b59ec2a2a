-- Running totals of all devices, every few minutes: what the whole fleet did between two moments is one subtraction.

-- They take the place of the sums since the last quarter of an hour.
DROP TABLE recent;

-- Every device that was ever counted; a device's place here is its place in the arrays below.
CREATE TABLE roster (
    stream text                PRIMARY KEY,
    ids    text[] COLLATE "C"  NOT NULL
);
INSERT INTO roster (stream, ids) VALUES ('meter', '{}'), ('vehicle', '{}');

-- What every device had sent up to a moment, since the totals of its stream began. One row for all of them: a row for
-- each device would cost more to write and ten times as much to read.
CREATE TABLE running_total (
    stream    text                NOT NULL,
    until     timestamptz         NOT NULL,
    readings  bigint              NOT NULL,  -- of all devices together
    kwh       double precision[]  NOT NULL,  -- kWh, of readings without a register
    samples   integer[]           NOT NULL,
    registers integer[]           NOT NULL,  -- how many of the readings have a register
    cadence   real[]              NOT NULL,  -- seconds between readings as a rule, at that time; NULL while unknown
    PRIMARY KEY (stream, until)
);
-- Sums do not compress, and trying takes time; the others do, to next to nothing.
ALTER TABLE roster ALTER COLUMN ids SET STORAGE EXTERNAL;
ALTER TABLE running_total ALTER COLUMN kwh SET STORAGE EXTERNAL;

-- Readings that were stored when the totals of their time were made already; they are added to what these say.
CREATE TABLE meter_belated (
    meter_id text COLLATE "C"  NOT NULL,
    ts       timestamptz       NOT NULL,
    kwh      double precision  -- NULL where the reading has a register
);
CREATE INDEX meter_belated_ts ON meter_belated (ts);
CREATE TABLE vehicle_belated (
    vehicle_id text COLLATE "C"  NOT NULL,
    ts         timestamptz       NOT NULL,
    kwh        double precision
);
CREATE INDEX vehicle_belated_ts ON vehicle_belated (ts);

-- Which devices have a register is asked of days, too.
CREATE INDEX meter_day_register ON meter_day (day) WHERE mark IS NOT NULL;
CREATE INDEX vehicle_day_register ON vehicle_day (day) WHERE mark IS NOT NULL;
