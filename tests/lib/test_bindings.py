"""The way round the bindings' own `__init__`."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.places import PROJECT, SAMPLE

pytestmark = pytest.mark.cdktf

LOADED = """
import json, sys
{before}
from lib import bindings
loaded = [name for name in sys.modules if name.startswith("cdktf_cdktf_provider_aws.")]
print(json.dumps([len([n for n in loaded if n.count(".") == 1]), bindings.KinesisStream.__module__]))
"""


def _run(before: str = "") -> list[object]:
    code = LOADED.format(before=before)
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_only_the_used_part_of_the_bindings_is_loaded() -> None:
    """Some dozens of submodules, not all 2,135."""
    count, module = _run()
    assert module == "cdktf_cdktf_provider_aws.kinesis_stream"
    assert isinstance(count, int)
    assert count < 60


def test_the_plain_import_takes_over_where_the_layout_changed() -> None:
    """A failing first submodule takes the registration back, so that Python imports the package as usual."""
    before = """
import importlib
real = importlib.import_module
def refuse(name, *args):
    if name == "cdktf_cdktf_provider_aws.provider":
        raise ImportError(name)
    return real(name, *args)
importlib.import_module = refuse
import types
class Stop(Exception): pass
import builtins
plain = builtins.__import__
def watch(name, *args, **kwargs):
    if name.startswith("cdktf_cdktf_provider_aws.") and "cdktf_cdktf_provider_aws" not in sys.modules:
        print(json.dumps([0, "plain"])); sys.stdout.flush(); import os; os._exit(0)
    return plain(name, *args, **kwargs)
builtins.__import__ = watch
"""
    assert _run(before) == [0, "plain"]


def test_a_missing_node_is_said_in_one_sentence() -> None:
    """A `JSII_NODE` that is not there is an environment fault with a remedy, not a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "fleet_iot.lib.app"],
        cwd=SAMPLE,
        env={"JSII_NODE": "/nowhere/node", "HOME": "/nowhere", "FLEET_ACCOUNT_ID": "123456789012"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 7
    assert done.stderr.splitlines() == [
        "error: Node, which CDKTF runs on, was not found (/nowhere/node).",
        "hint: Run `make setup`, or set JSII_NODE to a Node 20 or later.",
    ]
