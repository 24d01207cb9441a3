"""Limits of AWS on the texts that the manifest decides: pattern and length of each, from its service models.

`python -m fleet_iot.operations.assurance.compliance.aws_table` makes `limits.json` from botocore's models; a test
fails where it is stale. The generator itself knows no AWS.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files

from fleet_iot.generator.aws.java_regex import matches

TABLE = "limits.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLimit:
    """How long a text may be, in characters, and the pattern (Java's) that it must match as a whole."""

    min: int = 0
    max: int
    pattern: str = ""

    def takes(self, text: str) -> bool:
        """Return whether AWS accepts the text."""
        return self.min <= len(text) <= self.max and (not self.pattern or matches(self.pattern, text))


_ROWS: dict[str, dict[str, int | str]] = json.loads((files("fleet_iot.generator.aws") / TABLE).read_text("ascii"))


def _limit(member: str) -> TextLimit:
    row = _ROWS[member]
    return TextLimit(min=int(row.get("min", 0)), max=int(row["max"]), pattern=str(row.get("pattern", "")))


ATTRIBUTE_NAME = _limit("iot.CreateThing:attributePayload.attributes{key}")
ATTRIBUTE_VALUE = _limit("iot.CreateThing:attributePayload.attributes{value}")
POLICY_NAME = _limit("iot.CreatePolicy:policyName")
ROLE_NAME = _limit("iam.CreateRole:RoleName")
TAG_KEY = _limit("iam.CreateRole:Tags[].Key")
TAG_VALUE = _limit("iam.CreateRole:Tags[].Value")
TEMPLATE_BODY = _limit("iot.CreateProvisioningTemplate:templateBody")
TEMPLATE_NAME = _limit("iot.CreateProvisioningTemplate:templateName")
THING_GROUP_NAME = _limit("iot.CreateThingGroup:thingGroupName")
THING_NAME = _limit("iot.CreateThing:thingName")
THING_TYPE_DESCRIPTION = _limit("iot.CreateThingType:thingTypeProperties.thingTypeDescription")
THING_TYPE_NAME = _limit("iot.CreateThingType:thingTypeName")
TOPIC_RULE_NAME = _limit("iot.CreateTopicRule:ruleName")
