"""The process that a function runs in: loads its handler from the unpacked zip and answers one event after another.

Started as a script with `python -I -S`, so that the function sees its own zip, the standard library and what Lambda's
own runtime brings (boto3), and nothing else that happens to be installed. Imports nothing of the project.

Frames on the two inherited pipes: four bytes of length, then JSON. In: {"event", "request_id", "deadline", "arn"}.
Out: {"ready"} once, then {"answer"} or {"error", "message", "trace"} for each event.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import json
import os
import sys
import time
import traceback
from collections.abc import Sequence
from types import ModuleType
from typing import Any

RUNTIME_PACKAGES = frozenset({"boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six", "urllib3"})
"""Packages that AWS's Python runtime has installed for every function."""


class RuntimePackages(importlib.abc.MetaPathFinder):
    """Finds the runtime's packages, and only those, in this machine's site-packages."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the module's spec where it is one of the runtime's top-level packages."""
        if fullname not in RUNTIME_PACKAGES:
            return None
        return importlib.machinery.PathFinder.find_spec(fullname, [self._folder], target)


class Context:
    """The context that Lambda passes to a handler with the event."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.aws_request_id = request["request_id"]
        self.invoked_function_arn = request["arn"]
        self.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version = os.environ["AWS_LAMBDA_FUNCTION_VERSION"]
        self.memory_limit_in_mb = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self.log_group_name = os.environ["AWS_LAMBDA_LOG_GROUP_NAME"]
        self.log_stream_name = os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]
        self.identity = None
        self.client_context = None
        self._deadline = float(request["deadline"])

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until the function's timeout."""
        return max(0, int((self._deadline - time.time()) * 1000))


def main() -> None:
    """Serve events until the pipe closes; an error at import ends the process, as in Lambda's init."""
    site_packages, task_root, handler_name, incoming, outgoing = sys.argv[1:]
    reader, writer = os.fdopen(int(incoming), "rb"), os.fdopen(int(outgoing), "wb")
    sys.path.insert(0, task_root)
    sys.meta_path.append(RuntimePackages(site_packages))
    module_name, _, function_name = handler_name.rpartition(".")
    try:
        handler = getattr(importlib.import_module(module_name.replace("/", ".")), function_name)
    except BaseException as error:
        _send(writer, _described(error))
        raise
    _send(writer, {"ready": True})
    while (request := _receive(reader)) is not None:
        try:
            answer: dict[str, Any] = {"answer": handler(request["event"], Context(request))}
            json.dumps(answer)
        except Exception as error:
            answer = _described(error)
            print(json.dumps(answer), flush=True)
        _send(writer, answer)


def _described(error: BaseException) -> dict[str, Any]:
    return {"error": type(error).__name__, "message": str(error), "trace": traceback.format_exc().splitlines()}


def _receive(reader: Any) -> Any:
    header = reader.read(4)
    return json.loads(reader.read(int.from_bytes(header, "big"))) if len(header) == 4 else None


def _send(writer: Any, document: dict[str, Any]) -> None:
    body = json.dumps(document).encode()
    writer.write(len(body).to_bytes(4, "big") + body)
    writer.flush()


if __name__ == "__main__":
    main()
