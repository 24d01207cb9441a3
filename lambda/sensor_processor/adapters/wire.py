"""DynamoDB's JSON by msgspec, on botocore's public event hooks: for items that are typed already, a tenth of the cost.

botocore walks its model of each operation, attribute by attribute, to encode a request, to find the account in it and
to decode the answer. `items` writes and reads DynamoDB's own typed JSON, so nothing of that is left to do; endpoints,
signing, connections and errors stay botocore's. Where a version of botocore lacks `before-parse`, its own code decodes.

https://boto3.amazonaws.com/v1/documentation/api/latest/guide/events.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

OPERATIONS = ("BatchGetItem", "Query", "TransactWriteItems")

_BODY = "sensor_processor_body"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def speak_plainly(client: Any) -> Any:
    """Takes over the encoding of the processor's operations on a DynamoDB client, and gives it back.

    Binary attributes of answers are base64 text then, not bytes: `items` takes both.
    """
    events = client.meta.events
    for operation in OPERATIONS:
        events.register(f"provide-client-params.dynamodb.{operation}", _take_params)
        events.register_first(f"before-call.dynamodb.{operation}", _give_body)
        events.register(f"before-parse.dynamodb.{operation}", _parse)
    return client


def _take_params(*, params: Mapping[str, Any], context: dict[str, Any], **_: Any) -> dict[str, Any]:
    context[_BODY] = _encode(params)
    # botocore asks for the same parameters, and gets them empty; one that is JSON already is a list.
    return {
        name: [] if isinstance(value, msgspec.Raw) else type(value)()
        for name, value in params.items()
        if isinstance(value, dict | list | msgspec.Raw)
    }


def _give_body(*, params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    params["body"] = context.pop(_BODY)


def _parse(*, response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    # Errors are left to botocore: their codes come in headers and in several spellings.
    if response_dict["status_code"] == 200:
        customized_response_dict.update(_decode(response_dict["body"]))
        response_dict["body"] = b"{}"
