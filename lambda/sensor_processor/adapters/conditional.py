"""Changes items of DynamoDB under a condition."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from . import Retry


def code_of(error: Exception) -> str:
    """Return AWS's code of an error, or nothing."""
    return str(error.response.get("Error", {}).get("Code")) if isinstance(error, ClientError) else ""


def update_if(client: Any, *, retry: Retry, **request: Any) -> bool:
    """Change an item under the request's condition; return False if the condition does not hold.

    Raises:
        Unavailable: no time or attempts are left.
        BotoCoreError: the call failed otherwise.
        ClientError: DynamoDB refused it otherwise.
    """

    def update() -> bool:
        try:
            client.update_item(**request)
        except ClientError as error:
            if code_of(error) == "ConditionalCheckFailedException":
                return False
            raise
        return True

    return retry.run(update)
