"""The sensor processor: turns batches of device messages into exact aggregates, anomalies and an archive."""
