"""Gives records that ran out of retries to the sensor processor again, as long as the stream holds them."""
