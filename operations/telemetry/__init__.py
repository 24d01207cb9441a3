"""Reads and repairs what the processor wrote: anomalies, history, quarantine, redrive, archive, backtest."""
