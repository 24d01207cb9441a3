"""Read device lists: rows from every maker's format, and a fault with a remedy for each bad row."""
