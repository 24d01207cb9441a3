"""The day-2 commands of `fleet`, one module a command."""
