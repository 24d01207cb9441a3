"""Invokes a deployed function as Lambda would: its own zip, a process of its own, the credentials of its role."""

from __future__ import annotations

import io
import json
import os
import select
import shutil
import subprocess
import sys
import time
import uuid
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from fleet_iot.generator.diagnostics import EnvironmentFault

RUNTIME = Path(__file__).with_name("function_runtime.py")
INIT_SECONDS = 60.0
"""AWS allows 10 s for the start of a function; a loaded machine may need more."""

MAXIMUM_LIFE_SECONDS = 40 * 60.0
"""A process is replaced before the credentials that it started with (one hour) run out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A function as it is deployed."""

    arn: str
    name: str
    role_arn: str
    handler: str
    timeout_s: float
    memory_mb: int
    variables: Mapping[str, str]


class FunctionFailedError(Exception):
    """The function raised, timed out or died; `error` is Lambda's functionError."""

    def __init__(self, message: str, *, error: str = "Unhandled") -> None:
        super().__init__(message)
        self.error = error


def deployed_function(client: Any, name: str) -> Function:
    """Read a deployed function from Lambda."""
    configuration = client.get_function_configuration(FunctionName=name)
    return Function(
        arn=configuration["FunctionArn"],
        name=configuration["FunctionName"],
        role_arn=configuration["Role"],
        handler=configuration["Handler"],
        timeout_s=float(configuration["Timeout"]),
        memory_mb=int(configuration["MemorySize"]),
        variables=configuration.get("Environment", {}).get("Variables", {}),
    )


def unpack_function(archive: bytes, folder: Path) -> None:
    """Unpack a function's zip into `folder`, after emptying it."""
    shutil.rmtree(folder, ignore_errors=True)
    with zipfile.ZipFile(io.BytesIO(archive)) as contents:
        contents.extractall(folder)


class FunctionHost:
    """Keeps one process for a function, as Lambda keeps an execution environment, and replaces it when it fails."""

    def __init__(
        self,
        function: Function,
        *,
        code: Path,
        base_environment: Mapping[str, str],
        credentials: Callable[[], Mapping[str, str]],
        log: Path,
    ) -> None:
        self._function = function
        self._code = code
        self._base_environment = base_environment
        self._credentials = credentials
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._to_child = self._from_child = -1
        self.request_id = ""

    def invoke(self, event: Mapping[str, Any]) -> Any:
        """Return the function's answer to `event`. Raises FunctionFailedError where it raised, timed out or died."""
        if self._process is not None and time.monotonic() - self._started > MAXIMUM_LIFE_SECONDS:
            self.close()
        if self._process is None:
            self._start()
        self.request_id = str(uuid.uuid4())
        timeout = self._function.timeout_s
        request = {
            "event": event,
            "request_id": self.request_id,
            "deadline": time.time() + timeout,
            "arn": self._function.arn,
        }
        deadline = time.monotonic() + timeout
        try:
            self._write(json.dumps(request).encode())
            answer = self._read(deadline)
        except TimeoutError:
            self.close()
            raise FunctionFailedError(f"Task timed out after {timeout:.2f} seconds") from None
        except OSError:
            self.close()
            raise FunctionFailedError("the function's process ended", error="Runtime.ExitError") from None
        if "error" in answer:
            raise FunctionFailedError(f"{answer['error']}: {answer['message']}")
        return answer["answer"]

    def close(self) -> None:
        """End the process, whatever it does."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()
        os.close(self._to_child)
        os.close(self._from_child)

    def _start(self) -> None:
        child_reads, self._to_child = os.pipe()
        self._from_child, child_writes = os.pipe()
        site_packages = str(Path(boto3.__file__).parents[1])
        command = [sys.executable, "-I", "-S", "-B", "-u", str(RUNTIME), site_packages, str(self._code)]
        command += [self._function.handler, str(child_reads), str(child_writes)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._code,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(child_reads, child_writes),
            )
        os.close(child_reads)
        os.close(child_writes)
        self._started = time.monotonic()
        try:
            greeting = self._read(time.monotonic() + INIT_SECONDS)
        except OSError:
            greeting = {
                "error": "Runtime.ExitError",
                "message": f"it ended, or took over {INIT_SECONDS:.0f} s, at start",
            }
        if "ready" not in greeting:
            self.close()
            raise FunctionFailedError(f"{greeting['error']}: {greeting['message']}", error="Runtime.InitError")

    def _environment(self) -> dict[str, str]:
        """https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html"""
        function = self._function
        return {
            **self._base_environment,
            "AWS_LAMBDA_FUNCTION_NAME": function.name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": "local",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "LAMBDA_TASK_ROOT": str(self._code),
            "_HANDLER": function.handler,
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            **function.variables,
            **self._credentials(),
        }

    def _write(self, body: bytes) -> None:
        data = memoryview(len(body).to_bytes(4, "big") + body)
        while data:
            data = data[os.write(self._to_child, data) :]

    def _read(self, deadline: float) -> dict[str, Any]:
        header = self._read_bytes(4, deadline)
        document = json.loads(self._read_bytes(int.from_bytes(header, "big"), deadline))
        if not isinstance(document, dict):
            raise EnvironmentFault("the function's process broke its protocol", hint=f"see {self._log}")
        return document

    def _read_bytes(self, count: int, deadline: float) -> bytes:
        received = bytearray()
        while len(received) < count:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not select.select([self._from_child], [], [], remaining)[0]:
                raise TimeoutError
            chunk = os.read(self._from_child, count - len(received))
            if not chunk:
                raise BrokenPipeError
            received += chunk
        return bytes(received)
