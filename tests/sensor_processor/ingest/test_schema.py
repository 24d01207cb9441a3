"""The published message schema and the parser accept the same messages.

The validator is the jsonschema of `.venv-scan` (checkov brings it): one that nobody here has written.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_iot.generator.manifest.load import validate
from fleet_iot.generator.manifest.schema import message_schema
from fleet_iot.generator.manifest.yaml import parse_document
from fleet_iot.sensor_processor.ingest.catalogue import Catalogue, parse_catalogue
from fleet_iot.sensor_processor.ingest.reading import PoisonReading, parse_envelope, parse_readings
from tests.places import PROJECT, SAMPLE

VALIDATOR = PROJECT / ".venv-scan" / "bin" / "python"
EXAMPLES = int(os.environ.get("FLEET_SCHEMA_EXAMPLES", "400"))
NOW = 1_795_445_343_000
_SERVE = """
import json, sys
import jsonschema
validator = jsonschema.Draft202012Validator(json.loads(sys.stdin.readline()))
for line in sys.stdin:
    print(int(validator.is_valid(json.loads(line))), flush=True)
"""


@pytest.fixture(scope="module")
def accepts() -> Iterator[Callable[[str], bool]]:
    """Yield a function that returns whether the schema of press monitors accepts a document; one process serves all."""
    if not VALIDATOR.exists():
        pytest.skip("no .venv-scan: `make compliance` makes it")
    manifest = validate(parse_document((SAMPLE / "fleet.yaml").read_text(), name="fleet.yaml"))
    schema = message_schema(manifest, "press-monitor")
    with subprocess.Popen(
        [VALIDATOR, "-c", _SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        print(json.dumps(schema), file=process.stdin, flush=True)

        def ask(document: str) -> bool:
            assert process.stdin is not None and process.stdout is not None
            print(document, file=process.stdin, flush=True)
            return bool(int(process.stdout.readline()))

        yield ask
        process.stdin.close()


@pytest.fixture(scope="module")
def press_monitors() -> Catalogue:
    """The catalogue that the same manifest gives the processor."""
    manifest = validate(parse_document((SAMPLE / "fleet.yaml").read_text(), name="fleet.yaml"))
    metrics = manifest.device_types["press-monitor"].metrics
    units = {name: {"unit": metric.unit} for name, metric in metrics.items()}
    document = {"application": "mfg", "device_types": {"press-monitor": {"metrics": units}}}
    return parse_catalogue(json.dumps(document).encode())


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=4) | st.sampled_from(
    ["\x00", "\x1b", "\t", "a\r\n", "\x7f", "\u202e", "\ufeff", "\u2066", "\u200a", "é", "\U0001f600"]
)
numbers = st.sampled_from([0, -1, 20.5, 20, 1e12, -1e12, 999_999_999_999.9, 1e300, 2**53 - 1, 2**53, 2.0, 0.5, -0.0])
scalars = st.none() | st.booleans() | numbers | text
anything = st.recursive(scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(text, inner, max_size=2))
names = st.sampled_from(["temperature", "vibration", "Temperature", "m.1", "1m", "", "a b", "a\n", "m" * 64, "m" * 65])


def mostly(usual: st.SearchStrategy[Any], odd: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Nine of ten are usual."""
    return st.integers(0, 9).flatmap(lambda dice: odd if dice == 0 else usual)


times = mostly(
    st.sampled_from([NOW, float(NOW), NOW - 3_600_000]),
    st.sampled_from([NOW + 0.5, NOW // 1000, NOW * 1000, str(NOW), 0, -NOW, 1e300]) | scalars,
)
metric_names = mostly(st.sampled_from(["temperature", "vibration", "m.1"]), names | text)
values = mostly(numbers.filter(lambda number: abs(number) < 1e12) | st.none(), anything)
metrics = st.dictionaries(metric_names, values, max_size=4)
units = st.dictionaries(names | text, st.sampled_from(["celsius", "mm/s", "K", None, 1]) | text, max_size=2)
readings = st.fixed_dictionaries(
    {"time": times, "metrics": mostly(metrics, anything | st.just({f"m{n}": 1 for n in range(257)}))},
    optional={
        "sequence": mostly(st.sampled_from([0, 17, 17.0, None, 2**53 - 1]), scalars),
        "units": mostly(units | st.none(), anything),
        "note": anything,
        "x\x00": scalars,
    },
).flatmap(lambda reading: mostly(st.just(reading), st.sampled_from(["time", "metrics"]).map(
    lambda gone: {name: value for name, value in reading.items() if name != gone})))  # fmt: skip
odd_times = st.sampled_from([NOW + 0.5, NOW // 1000, NOW * 1000, 10**11 - 1, str(NOW), 0, -NOW, 1e300, None, True])
one_change = st.one_of(
    odd_times.map(lambda time: {"time": time}),
    scalars.map(lambda sequence: {"sequence": sequence}),
    numbers.map(lambda value: {"metrics": {"temperature": value}}),
    st.builds(lambda name, value: {"metrics": {"temperature": 20, name: value}}, names | text, scalars),
    st.builds(lambda name, unit: {"units": {name: unit}}, names | text, text | st.sampled_from(["celsius", None, 1])),
    st.builds(lambda name, value: {name: value}, text, anything),
)
"""Readings that are right except for one field, which is added or changed."""
right = {"time": NOW, "sequence": 17, "metrics": {"temperature": 20.5}}
changed = one_change.map(lambda change: right | change)
documents = st.one_of(
    changed, changed, readings, changed.map(lambda reading: [right, reading]), st.lists(readings, max_size=3), anything
)


@pytest.mark.slow
@settings(max_examples=EXAMPLES)
@given(document=documents, is_ascii=st.booleans())
def test_schema_and_parser_agree(
    document: Any, is_ascii: bool, accepts: Any, press_monitors: Catalogue, envelope: Any
) -> None:
    """A JSON document is accepted by both, or by neither."""
    payload = json.dumps(document, ensure_ascii=is_ascii)
    stamped = parse_envelope(json.dumps(envelope(payload=payload.encode())).encode())
    try:
        parse_readings("1", stamped, catalogue=press_monitors, suffix="dev")
        refusal = None
    except PoisonReading as poison:
        refusal = str(poison)
    assert accepts(json.dumps(document)) == (refusal is None), refusal
