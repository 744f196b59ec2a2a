-- The kinds of devices. What belongs to one kind is made by a single call.

-- `figures` are the columns of what its devices send, as in CREATE TABLE. Of a stream with energy two of them are named
-- by the stream's declaration, the energy of an interval and the cumulative register: a reading has one of them, and the
-- other is NULL.
CREATE FUNCTION ingestd_create_stream(stream text, figures text, has_energy boolean DEFAULT true) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
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
