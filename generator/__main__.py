"""Runs the command line as `python -m generator`."""

from fleet_iot.generator.cli.commands import main

if __name__ == "__main__":
    main()
