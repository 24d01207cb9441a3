"""The platform's stack, made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fleet_iot.lib.shared.packaging import LambdaZip
from tests.lib.conftest import FLEET

pytestmark = pytest.mark.cdktf


def test_it_takes_its_context_as_keywords(tmp_path: Path) -> None:
    """`TapStack(scope, id, environment_suffix=…, aws_region=…, state_bucket=…, …)`; an unknown keyword is an error."""
    from fleet_iot.lib.bindings import App
    from fleet_iot.lib.tap_stack import TapStack

    zip_ = tmp_path / "code.zip"
    zip_.touch()
    given: dict[str, Any] = {
        "environment_suffix": "qa",
        "aws_region": "eu-west-1",
        "state_bucket": "states",
        "state_bucket_region": "eu-central-1",
        "default_tags": {"owner": "operations"},
        "fleet": FLEET,
        "code": LambdaZip(path=zip_, source_code_hash="x", architecture="arm64"),
        "compactor_code": LambdaZip(path=zip_, source_code_hash="x", architecture="arm64"),
    }
    app = App(outdir=str(tmp_path / "out"))
    TapStack(app, "tap-qa", **given)
    app.synth()
    document = json.loads((tmp_path / "out" / "stacks" / "tap-qa" / "cdk.tf.json").read_text())
    backend = document["terraform"]["backend"]["s3"]
    assert (backend["bucket"], backend["key"], backend["region"]) == (
        "states",
        f"{FLEET.application}/qa/tap-qa.tfstate",
        "eu-central-1",
    )
    (provider,) = document["provider"]["aws"]
    assert (provider["region"], provider["default_tags"]) == ("eu-west-1", [{"tags": {"owner": "operations"}}])
    with pytest.raises(TypeError, match="state_buckt"):
        TapStack(app, "other", **given, state_buckt="states")
