"""Thing names, serials, topics, prefixes and paths of a fleet; resource names are in `fleet_iot.lib.names`.

Names have no environment suffix, which `specs.suffixed` adds. The tokens are placeholders for values of an environment;
they are upper case, so that no id, name or topic can contain them.
"""

from __future__ import annotations

import keyword

from fleet_iot.lib.names import topic_rule
from fleet_iot.lib.specs import ACCOUNT_ID_TOKEN, SUFFIX_TOKEN
from fleet_iot.lib.specs import SUFFIX_PATTERN as SUFFIX

TOKENS = (ACCOUNT_ID_TOKEN, SUFFIX_TOKEN)
THING_NAME_VARIABLE = "${iot:Connection.Thing.ThingName}"
"""Policy variable that AWS replaces by the connected thing's name."""

ID_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$"
SUFFIX_PATTERN = f"^{SUFFIX.pattern}$"
NAME_PATTERN = r"^[a-z0-9][a-z0-9_]{0,31}$"
"""Of a thing within its group; without hyphens, so that no two groups can make the same name of it."""
SUFFIX_MAX_LENGTH = 16
"""The variable ENVIRONMENT_SUFFIX may override the manifest's: sizes are checked with the longest."""

FACILITY_PREFIXES = {
    "archive": "the readings",
    "quarantine": "the quarantined messages",
    "iot-rule-errors": "the messages that the topic rule could not deliver",
}
"""Prefixes of the raw archive, each with `facility=<id>/` below."""

FLEET_MODULE = "fleet"
FLEET_FILE = f"{FLEET_MODULE}.py"
REGISTRY_FILE = "__init__.py"
INDEX_FILE = ".generated.json"
ATTRIBUTES_FILE = ".gitattributes"
"""Keeps git from changing line ends in the generated tree, whose files are verified by hash."""
THINGS_FILE = "things.jsonl"


METRICS_DIMENSIONS = ("Facility", "DeviceType")
PROCESSOR_METRICS = (
    "ReadingsProcessed",
    "AnomaliesDetected",
    "ReadingsQuarantined",
    "ReadingsDuplicate",
    "ReadingsLate",
)
"""Every metric of the sensor processor, all of them counts; the most looked at first."""


def module_of(facility: str) -> str:
    """Return the Python module of a facility id: an identifier, and never one that is taken."""
    module = facility.replace("-", "_")
    is_free = module.isidentifier() and not keyword.iskeyword(module) and module != FLEET_MODULE
    return module if is_free else f"_{module}"


def thing_name(facility: str, device_type: str, number: int) -> str:
    """Return the name of a thing, which is its MQTT client id too; at least four digits, so that counts can grow."""
    return f"{thing_prefix(facility, device_type)}{number:04d}"


def thing_prefix(facility: str, device_type: str) -> str:
    """Return the prefix with which the names of all things of one type in one facility begin."""
    return f"{facility}-{device_type}-"


def serial_prefix(facility: str, device_type: str) -> str:
    """Return the prefix with which the serials of all things of one type in one facility begin."""
    return f"{facility.replace('-', '')}-{device_type}-".upper()


def serial(facility: str, device_type: str, number: int) -> str:
    """Return the serial number of a thing that is given by count."""
    return f"{serial_prefix(facility, device_type)}{number:04d}"


def named_thing(facility: str, device_type: str, name: str) -> str:
    """Return the name of a thing with a name of its own in the manifest or in a device list."""
    return f"{thing_prefix(facility, device_type)}{name}"


def named_serial(facility: str, device_type: str, name: str) -> str:
    """Return the serial number of a named thing without a serial in the manifest."""
    return f"{serial_prefix(facility, device_type)}{name.upper()}"


def policy_file(device_type: str) -> str:
    """Return the file in the facility's folder with a device policy."""
    return f"{device_type}.policy.json"


def topic_rule_file(facility: str) -> str:
    """Return the file in the facility's folder with the rule's statement."""
    return f"{topic_rule(facility)}.sql"


def telemetry_topic(application: str, facility: str, device_type: str, thing: str) -> str:
    """Return the topic on which a thing publishes readings."""
    return f"dt/{application}/{facility}/{device_type}/{thing}/telemetry"


def telemetry_filter(application: str, facility: str) -> str:
    """Return the topic filter that matches the readings of all things of a facility."""
    return telemetry_topic(application, facility, "+", "+")


def request_topic(application: str, facility: str, device_type: str, thing: str) -> str:
    """Return the topic on which a thing receives commands."""
    return f"cmd/{application}/{facility}/{device_type}/{thing}/request"


def response_topic(application: str, facility: str, device_type: str, thing: str) -> str:
    """Return the topic on which a thing answers commands."""
    return f"cmd/{application}/{facility}/{device_type}/{thing}/response"


def basic_ingest_topic(rule: str, topic: str) -> str:
    """Return the topic of Basic Ingest, which sends to `rule` (its name with suffix) without the broker's charge."""
    return f"$aws/rules/{rule}/{topic}"


def iot_arn(region: str, resource: str) -> str:
    """Return the ARN of an AWS IoT resource, such as `topic/…`, in the account of the token."""
    return f"arn:aws:iot:{region}:{ACCOUNT_ID_TOKEN}:{resource}"


def archive_prefix(facility: str, device_type: str) -> str:
    """Return the archive prefix of the readings of one device type in one facility, Hive style."""
    return f"archive/facility={facility}/device_type={device_type}/"
