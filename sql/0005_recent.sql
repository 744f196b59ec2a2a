-- What every device has sent since the last settled quarter of an hour: the fleet's figures up to this minute without
-- going through the readings of a quarter.

-- One row a stream, and in it one element a device: it is written every two minutes, and a row each would cost more.
-- It holds as long as `since` is the `settled` of the rollups; devices with a mark from there on are not to be trusted.
CREATE TABLE recent (
    stream     text                PRIMARY KEY,
    since      timestamptz         NOT NULL,
    until      timestamptz         NOT NULL,
    ids        text[] COLLATE "C"  NOT NULL,
    kwh        double precision[]  NOT NULL,  -- kWh, of readings without a register
    samples    integer[]           NOT NULL,
    registered boolean[]           NOT NULL   -- whether one of the readings has a register
);
-- Read once and written anew: compressing takes longer than it saves.
ALTER TABLE recent
    ALTER COLUMN ids SET STORAGE EXTERNAL,
    ALTER COLUMN kwh SET STORAGE EXTERNAL,
    ALTER COLUMN samples SET STORAGE EXTERNAL,
    ALTER COLUMN registered SET STORAGE EXTERNAL;
