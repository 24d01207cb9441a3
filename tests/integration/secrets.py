"""Secrets that must be in no state and no plan: key material, filled secret attributes, values of the environment."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from fleet_iot.operations.rehearsal.demo import holds_private_key

SHORTEST = 8
"""Characters. A shorter value (`1`, `test`, `C.UTF-8`) is in a long text by chance, and no secret worth the name."""

PUBLIC = frozenset(
    {
        # Part of every ARN and endpoint.
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        # Where the emulator listens: the addresses of queues begin with it.
        "AWS_ENDPOINT_URL",
        # Parts of names and ARNs, chosen by whoever deploys.
        "ENVIRONMENT_SUFFIX",
        "FLEET_ACCOUNT_ID",
        "FLEET_ASSUME_ROLE_ARN",
        "FLEET_FACILITIES",
        "TERRAFORM_STATE_BUCKET",
        "TERRAFORM_STATE_BUCKET_REGION",
        "TERRAFORM_STATE_KEY_ARN",
        "TERRAFORM_STATE_ROLE_ARN",
    }
)
"""Variables whose values belong into states. All others are looked for, paths too: they would name a machine."""

SECRET_ATTRIBUTE = re.compile(r"private_key|password|passphrase|secret|token", re.IGNORECASE)
NO_SECRET = frozenset({"secretsmanager"})


def secret_values(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that are looked for, with their values."""
    return {name: value for name, value in environment.items() if name not in PUBLIC and len(value) >= SHORTEST}


def secrets_in(text: str, environment: Mapping[str, str]) -> list[str]:
    """Return the secrets in the JSON `text` of a state or plan, each by what it is and never by its value."""
    found = ["a private key"] if holds_private_key(text.encode()) else []
    # JSON writes some characters in another way than the environment does.
    found += [
        f"the value of {name}"
        for name, value in secret_values(environment).items()
        if value in text or json.dumps(value)[1:-1] in text
    ]
    return found + [f"attribute {path}" for path in _filled_secrets(json.loads(text))]


def _filled_secrets(value: Any, path: str = "") -> Iterator[str]:
    """Attributes that are named like a secret and hold text; `sensitive_values` tell only whether one would be."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, str) and inner and SECRET_ATTRIBUTE.search(key) and key not in NO_SECRET:
                yield f"{path}.{key}"
            yield from _filled_secrets(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _filled_secrets(inner, f"{path}[{number}]")
