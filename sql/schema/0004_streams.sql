-- The streams. A single call makes all tables of one.

-- `figures` are the columns of the figures that its devices send, as in CREATE TABLE. A stream with energy has two
-- columns for it: the energy of an interval and the cumulative register. A reading has one of them; the other is NULL.
CREATE FUNCTION ingestd_create_stream(stream text, figures text, has_energy boolean DEFAULT true) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO stream (name, has_energy) VALUES (stream, has_energy);
    PERFORM ingestd_create_history(stream, figures);
    IF has_energy THEN
        PERFORM ingestd_create_ledger(stream);
    END IF;
END;
$$;

SELECT ingestd_create_stream('meter', $$
    kwh_consumed_ac          double precision,           -- kWh in the interval
    voltage                  double precision  NOT NULL,  -- V
    kwh_consumed_ac_register double precision            -- kWh, cumulative
$$);
SELECT ingestd_create_stream('vehicle', $$
    soc                       double precision  NOT NULL,  -- state of charge, %
    kwh_delivered_dc          double precision,           -- kWh in the interval
    battery_temp              double precision  NOT NULL,  -- degrees Celsius
    kwh_delivered_dc_register double precision            -- kWh, cumulative
$$);
