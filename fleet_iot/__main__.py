"""Runs the command line as `python -m fleet_iot`."""

from fleet_iot.generator.cli.commands import main

main()
