"""Shows the anomalies that the sensor processor found, and notes who has seen them."""
