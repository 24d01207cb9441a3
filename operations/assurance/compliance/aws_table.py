"""Writes the generator's table of AWS's limits from botocore's service models.

Run `python -m fleet_iot.operations.assurance.compliance.aws_table` after an update of botocore. The members are
those that the table has: to add one, add its line with `{}` and run this.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from fleet_iot.generator.aws import limits as aws_limits
from fleet_iot.operations.local.service_model import input_of

PATH = Path(aws_limits.__file__).with_name(aws_limits.TABLE)


def limits_of(member: str) -> dict[str, Any]:
    """Return the model's limits of a member such as `iot.CreateThing:attributePayload.attributes{key}`."""
    service, operation, steps = re.split(r"[.:]", member, maxsplit=2)
    shape = input_of(service, operation)
    for step in re.findall(r"\w+|\[\]|\{\w+\}", steps):
        if step == "[]":
            shape = shape.member
        elif step.startswith("{"):
            shape = shape.key if step == "{key}" else shape.value
        else:
            shape = shape.members[step]
    return {name: shape.metadata[name] for name in ("min", "max", "pattern") if name in shape.metadata}


def current() -> str:
    """Return the table as it should be, as text."""
    table = {member: limits_of(member) for member in json.loads(PATH.read_text("ascii"))}
    return json.dumps(table, indent=2, sort_keys=True) + "\n"


def main() -> None:
    text = current()
    if text == PATH.read_text("ascii"):
        print(f"{PATH.name} is up to date")
    else:
        PATH.write_text(text, "ascii")
        print(f"wrote {PATH.name}")


if __name__ == "__main__":
    main()
