SELECT encode(*, 'base64') AS raw, topic(3) AS facility, topic(4) AS device_type, topic(5) AS thing, clientid() AS client_id, principal() AS principal, timestamp() AS received_at, traceid() AS trace_id
FROM 'dt/mfg/my-jb-01/+/+/telemetry'
