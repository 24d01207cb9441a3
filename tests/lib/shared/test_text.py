"""Text stays text: nothing that a person wrote is evaluated by Terraform."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from benchmarks.project import make_project, synthesis_environment
from fleet_iot.generator.manifest.load import validate
from fleet_iot.generator.manifest.yaml import parse_document
from fleet_iot.lib.faults import SynthesisError
from fleet_iot.lib.shared.text import ascii_form, described, literal, read_document, read_statement
from fleet_iot.lib.specs import ContactSpec, FacilitySpec, LineSpec
from fleet_iot.lib.synthesis.output import _expressions, check_expressions
from fleet_iot.operations.terraform import find_terraform

FORMS = (
    '${file("/etc/hostname")}',
    "${PLANT_NAME}",
    "$${x}",
    "$$${x}",
    "$$$${x}",
    "%{if true}yes%{endif}",
    "%%{for}",
    "%%%{x}",
    "100 %% $$ $ % {} \\${x} \\n",
    "${aws_kms_key.key-data.arn}",
    "${TfToken[TOKEN.0]}",
    "#{TfToken[TOKEN.1]}",
    "@{TfToken[TOKEN.2]}",
    "&{TfToken[TOKEN.3]}",
    "${path.module} ${each.key} ${",
    "%{",
    "ends in $",
    "$TfToken[",
    "$$TfToken[TOKEN.1] %TfToken[",
    "$#{TfToken[TOKEN.1]}",
)
GRAPH = re.compile(r"[!-~ ]+")
"""AWS IoT's `[\\p{Graph}\\x20]*`."""


def evaluate(texts: list[str], folder: Path) -> list[str]:
    """Return the texts that the real Terraform makes of strings in its JSON."""
    folder.mkdir(exist_ok=True)
    (folder / "main.tf.json").write_text(json.dumps({"output": {"texts": {"value": texts}}}))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [find_terraform(), *arguments], cwd=folder, env=kept, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("apply", "-auto-approve", "-input=false")
    return list(json.loads(run("output", "-json"))["texts"]["value"])


@pytest.mark.slow
def test_terraform_gives_back_what_was_written(tmp_path: Path) -> None:
    """Every form of a template, of its escapes and of CDKTF's tokens, alone and beside each other."""
    texts = [*FORMS, *(f"{one}{other}" for one in FORMS for other in FORMS)]
    assert texts == evaluate([literal(text) for text in texts], tmp_path / "evaluated")


def unescaped(text: str) -> str:
    """Return HCL's reading of a template of text, escapes and expressions of one quoted string; fail on anything else.

    Source: https://github.com/hashicorp/hcl/blob/main/hclsyntax/spec.md#template-literals
    """
    made, at = "", 0
    while at < len(text):
        sign, end = text[at], at
        while end < len(text) and text[end] == sign and sign in "$%":
            end += 1
        if end == at:
            made, at = made + sign, at + 1
        elif text[end : end + 1] != "{":
            made, at = made + text[at:end], end
        elif end - at > 1:
            made, at = made + text[at : end - 1] + "{", end + 1
        else:
            assert sign == "$"
            value, length = json.JSONDecoder().raw_decode(text[end + 1 :])
            assert (str, "}") == (type(value), text[end + 1 + length])
            made, at = made + value, end + length + 2
    return made


PIECES = st.sampled_from(
    [*'${}[]%#Tfoken."\\@&', "TfToken[", "TfToken[TOKEN.1]", "#{", "${", "$TfToken[", "${TfToken["]
)


@given(st.lists(PIECES, max_size=12).map("".join))
@example("$TfToken[")
@example("$$TfToken[")
@example("%TfToken[{${")
def test_a_literal_is_what_was_written(text: str) -> None:
    """Terraform reads the text again, CDKTF finds no token in it, and the last gate takes it."""
    escaped = literal(text)
    assert text == unescaped(escaped)
    assert "TfToken[" not in escaped
    assert [] == list(_expressions({"resource": [escaped]}))


def test_every_text_of_a_declaration_becomes_a_literal(facility: Any) -> None:
    """Nested dataclasses, tuples and keys of dictionaries too; numbers and None stay."""
    contact = ContactSpec(name="%{x}", email=None, phone=None)
    line = LineSpec(id="b2", name="${x}", contact=contact)
    given_: FacilitySpec = facility(name="${x}", tags={"${k}": "%{v}"}, lines=(line,), contact=contact)
    found = literal(given_)
    assert (found.name, found.tags) == ("$${x}", {"$${k}": "%%{v}"})
    assert found.lines[0].name == "$${x}"
    assert found.lines[0].contact == found.contact == dataclasses.replace(contact, name="%%{x}")
    assert found.groups == given_.groups
    assert literal(["${x}", 1, None, 2.5]) == ["$${x}", 1, None, 2.5]


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Tuas Plant 1", "Tuas Plant 1"),
        ("Werk Zürich-Süd", "Werk Zurich-Sud"),
        ("Łódź – Zakład №2", "Lodz - Zaklad No2"),
        ("Straße 5 ½", "Strasse 5 1/2"),
        ("โรงงานระยอง", ""),
        ("โรงงาน Rayong 2", "Rayong 2"),
        ("東京(第一)", ""),
        ("\t ", ""),
        ("${x} %{y}", "${x} %{y}"),
    ],
)
def test_ascii_form(text: str, plain: str) -> None:
    """Accents go, letters of other scripts go, and what has nothing to read is empty."""
    assert ascii_form(text) == plain


@given(st.text(max_size=100))
def test_a_description_is_one_that_aws_iot_takes(name: str) -> None:
    """Printable ASCII, not empty, and never longer than AWS's 2,028 characters."""
    description = described("sg-01", name)
    assert GRAPH.fullmatch(description)
    assert len(description) <= 2028
    assert description.startswith("sg-01")


@pytest.mark.parametrize(
    "text",
    ['${file("/x")}', "%{if true}", "${aws_kms_key.other.arn}", "${var.x}", "${aws_kms_key.k.arn", "a${local.b}c"],
)
@pytest.mark.parametrize("place", ["value", "key", "list"])
def test_an_expression_that_code_did_not_make_is_refused(tmp_path: Path, text: str, place: str) -> None:
    """The last gate: text that reached a stack unescaped is not written for Terraform to run."""
    body: Any = {"value": {"x": text}, "key": {text: "x"}, "list": {"x": [text]}}[place]
    path = tmp_path / "stack" / "cdk.tf.json"
    path.parent.mkdir()
    document = {"resource": {"aws_kms_key": {"k": {}}, "aws_sns_topic": {"t": body}}}
    path.write_text(json.dumps(document))
    with pytest.raises(SynthesisError, match="stack would have Terraform evaluate"):
        check_expressions(path)


def test_references_within_a_stack_are_expressions(tmp_path: Path) -> None:
    """To a resource, or to a data source; and what is escaped is none."""
    path = tmp_path / "cdk.tf.json"
    texts = ["${aws_kms_key.key-data.arn}", "x ${data.aws_caller_identity.current.account_id} y", *map(literal, FORMS)]
    document = {
        "resource": {"aws_kms_key": {"key-data": {}}, "aws_sns_topic": {"t": {"x": texts}}},
        "data": {"aws_caller_identity": {"current": {}}},
    }
    path.write_text(json.dumps(document))
    check_expressions(path)


HOSTILE = " ".join(FORMS)
MARK = "PLANT_NAME"
MANIFEST: dict[str, Any] = {
    "version": 1,
    "application": "mfg",
    "environment_suffix": "dev",
    "region": "ap-southeast-1",
    "account_id": "123456789012",
    "device_types": {
        "sensor": {
            "description": f"D {HOSTILE}",
            "sample_interval_s": 10,
            "metrics": {"temperature": {"unit": f"U {FORMS[1]} %{{x", "max": 85}},
        }
    },
    "facilities": {
        "sg-01": {
            "name": f"N {FORMS[1]} {FORMS[0]} {FORMS[3]} {FORMS[5][:9]}",
            "timezone": "Asia/Singapore",
            "registration": "terraform",
            "contact": {"name": f"C {FORMS[1]} {FORMS[5]}"},
            "lines": {"b2": {"name": f"L {FORMS[1]} {FORMS[5]}", "contact": {"name": f"K {FORMS[1]} {FORMS[10]}"}}},
            "things": {"sensor": {"count": 2, "line": "b2"}},
        }
    },
}


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if MARK in value else []
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for each in inner for text in _texts(each)]


@pytest.mark.cdktf
def test_every_free_text_of_the_manifest_reaches_aws_as_it_is_written(tmp_path: Path) -> None:
    """Names, descriptions, units and contacts full of templates: generated, synthesised, read by the real Terraform."""
    project = tmp_path / "project"
    project.mkdir()
    make_project(project, validate(parse_document(json.dumps(MANIFEST), name="fleet.yaml")))
    done = subprocess.run(
        [sys.executable, "-m", "lib.app"],
        cwd=project,
        env=synthesis_environment(project, tmp_path / "out"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    documents = {
        path.parent.name: json.loads(path.read_text()) for path in (tmp_path / "out" / "stacks").glob("*/cdk.tf.json")
    }
    written = _texts([document["resource"] for document in documents.values()])
    read = evaluate(written, tmp_path / "evaluated")
    plant, kind = MANIFEST["facilities"]["sg-01"], MANIFEST["device_types"]["sensor"]
    assert {
        f"Telemetry of {plant['name']}",
        f"Devices of {plant['name']}",
        f"sg-01 ({plant['name']})",
        f"sensor at sg-01 ({plant['name']})",
        kind["description"],
    } <= set(read)
    dashboards = [text for text in read if text.startswith("{")]
    generated = project / "lib" / "facilities" / "sg_01" / "dashboard.json"
    assert [json.loads(each) for each in dashboards] == [
        json.loads(generated.read_text().replace("ENVIRONMENT_SUFFIX", "dev"))
    ]


def test_tokens_are_filled_after_escaping(tmp_path: Path) -> None:
    """An account id that Terraform looks up stays an expression, beside AWS's own variables that do not."""
    path = tmp_path / "policy.json"
    path.write_text('{"r":"arn:aws:iot:r:ACCOUNT_ID:client/${iot:ClientId}-ENVIRONMENT_SUFFIX"}')
    assert read_document(path, account_id="${data.x.account_id}", suffix="dev") == (
        '{"r":"arn:aws:iot:r:${data.x.account_id}:client/$${iot:ClientId}-dev"}'
    )


def test_a_rule_hears_its_own_environment_alone(tmp_path: Path) -> None:
    """The statement gets a WHERE on the client id's suffix, and stays on one line."""
    path = tmp_path / "rule.sql"
    path.write_text("SELECT * \nFROM 'dt/a/b'\n")
    assert read_statement(path, suffix="dev") == "SELECT * FROM 'dt/a/b' WHERE regexp_matches(clientid(), '-dev$')"
