"""The day-2 commands of `fleet`, grouped by what they work on."""
