-- The sessions that the broker keeps for us. A row is there from before the first CONNECT until `ingestd leave` has ended
-- the session, so that no session is forgotten that still gets a share of the messages.
CREATE TABLE broker_session (
    client_id    text COLLATE "C" PRIMARY KEY,
    daemon       text COLLATE "C" NOT NULL,  -- INGESTD_MQTT_CLIENT_ID of the daemons that hold it
    shared_group text                        -- INGESTD_MQTT_SHARED_GROUP, by which it was subscribed; NULL: without
);
