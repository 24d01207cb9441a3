"""The function's host, with handlers written by the test and run in real processes."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from fleet_iot.operations.local.function_host import Function, FunctionFailedError, FunctionHost, unpack_function

HANDLER = """
import os, time
from handler_part import answer

def handle(event, context):
    if "sleep" in event:
        time.sleep(event["sleep"])
    if "exit" in event:
        os._exit(event["exit"])
    if "raise" in event:
        raise ValueError(event["raise"])
    if "import" in event:
        __import__(event["import"])
    if "variable" in event:
        return os.environ.get(event["variable"])
    print("seen", context.aws_request_id)
    return answer(os.getpid(), context)
"""
PART = """
def answer(pid, context):
    return {"pid": pid, "name": context.function_name, "left": context.get_remaining_time_in_millis()}
"""

Open = Callable[..., FunctionHost]


@pytest.fixture
def open_host(tmp_path: Path) -> Iterator[Open]:
    """Opens hosts for the handler above and closes them after the test."""
    code = tmp_path / "function"
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as contents:
        contents.writestr("package/handler.py", HANDLER)
        contents.writestr("handler_part.py", PART)
        contents.writestr("broken.py", "raise RuntimeError('no such table')")
    unpack_function(archive.getvalue(), code)
    hosts = []

    def begin(
        *, handler: str = "package.handler.handle", timeout_s: float = 20.0, variables: Mapping[str, str] | None = None
    ) -> FunctionHost:
        function = Function(
            arn="arn:aws:lambda:x:000000000000:function:f",
            name="f",
            role_arn="arn:aws:iam::000000000000:role/r",
            handler=handler,
            timeout_s=timeout_s,
            memory_mb=128,
            variables=variables or {},
        )
        host = FunctionHost(
            function,
            code=code,
            base_environment={},
            credentials=lambda: {"AWS_SESSION_TOKEN": "of the role"},
            log=tmp_path / "function.log",
        )
        hosts.append(host)
        return host

    yield begin
    for host in hosts:
        host.close()


def test_one_process_answers_several_events_and_prints_to_its_log(open_host: Open, tmp_path: Path) -> None:
    """The process is kept between events; what the function prints goes to the log, not into the answer."""
    host = open_host()
    first, second = host.invoke({}), host.invoke({})
    assert (first["pid"], first["name"]) == (second["pid"], "f")
    assert 0 < first["left"] <= 20_000
    assert f"seen {host.request_id}" in (tmp_path / "function.log").read_text()


def test_the_function_sees_its_variables_and_its_roles_credentials_and_nothing_of_ours(open_host: Open) -> None:
    """The environment is the deployed one, with the role's credentials in it, not the host's."""
    host = open_host(variables={"READINGS_TABLE": "table-readings-dev"})
    names = ["READINGS_TABLE", "AWS_SESSION_TOKEN", "LAMBDA_TASK_ROOT", "HOME", "PYTHONPATH"]
    assert [host.invoke({"variable": name}) for name in names[:2]] == ["table-readings-dev", "of the role"]
    assert [host.invoke({"variable": name}) for name in names[3:]] == [None, None]


@pytest.mark.slow
def test_a_package_that_is_not_in_the_zip_is_not_found(open_host: Open) -> None:
    """boto3 is there, as in Lambda; pytest, though installed here, is not."""
    host = open_host()
    assert host.invoke({"import": "boto3"})["name"] == "f"
    with pytest.raises(FunctionFailedError, match="ModuleNotFoundError: No module named 'pytest'"):
        host.invoke({"import": "pytest"})


def test_an_exception_fails_the_invocation_and_keeps_the_process(open_host: Open) -> None:
    """A function that raises stays warm."""
    host = open_host()
    before = host.invoke({})["pid"]
    with pytest.raises(FunctionFailedError, match="ValueError: bad reading"):
        host.invoke({"raise": "bad reading"})
    assert host.invoke({})["pid"] == before


def test_a_function_that_takes_too_long_is_killed(open_host: Open) -> None:
    """At its timeout the process ends, and the next event gets a new one."""
    host = open_host(timeout_s=2)
    before = host.invoke({})["pid"]
    begun = time.monotonic()
    with pytest.raises(FunctionFailedError, match=r"Task timed out after 2\.00 seconds"):
        host.invoke({"sleep": 60})
    assert time.monotonic() - begun < 10
    assert host.invoke({})["pid"] != before


def test_a_process_that_dies_fails_the_invocation(open_host: Open) -> None:
    """A function that ends its process is an error of the runtime, and the next event gets a new process."""
    host = open_host()
    with pytest.raises(FunctionFailedError) as failure:
        host.invoke({"exit": 3})
    assert failure.value.error == "Runtime.ExitError"
    assert host.invoke({})["name"] == "f"


def test_a_module_that_cannot_be_imported_says_why(open_host: Open) -> None:
    """A fault at cold start is reported with its own message."""
    with pytest.raises(FunctionFailedError, match="RuntimeError: no such table"):
        open_host(handler="broken.handle").invoke({})
