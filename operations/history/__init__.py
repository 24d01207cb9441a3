"""Shows what a thing has measured, by the minute, hour or day."""
