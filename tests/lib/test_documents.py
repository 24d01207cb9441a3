"""Generated documents as Terraform strings."""

from __future__ import annotations

from pathlib import Path

from fleet_iot.lib.shared.text import read_document, read_statement


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
