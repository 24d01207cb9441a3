"""What references between resources stand for: the ARNs and names that AWS would make of them."""

from __future__ import annotations

from typing import Any

from fleet_iot.operations.assurance.compliance.estate import REFERENCE, Body, Estate, Resource, made_up_id

ARNS = {
    "aws_kms_key": "arn:aws:kms:{region}:{account}:key/{uuid}",
    "aws_sns_topic": "arn:aws:sns:{region}:{account}:{name}",
    "aws_sqs_queue": "arn:aws:sqs:{region}:{account}:{name}",
    "aws_kinesis_stream": "arn:aws:kinesis:{region}:{account}:stream/{name}",
    "aws_dynamodb_table": "arn:aws:dynamodb:{region}:{account}:table/{name}",
    "aws_lambda_function": "arn:aws:lambda:{region}:{account}:function:{function_name}",
    "aws_cloudwatch_log_group": "arn:aws:logs:{region}:{account}:log-group:{name}",
    "aws_iam_role": "arn:aws:iam::{account}:role/{name}",
    "aws_s3_bucket": "arn:aws:s3:::{bucket}",
    "aws_cloudtrail": "arn:aws:cloudtrail:{region}:{account}:trail/{name}",
}
"""How AWS makes the ARNs that only an apply would know."""


NAMES = ("name", "bucket", "function_name", "key_id", "id")
"""Attributes by which a resource is referred to that are literal in its own body, or its name."""


class UnknownUntilApplied(Exception):  # noqa: N818 - not an error: what only an apply knows
    """A value refers to what only AWS can make."""


def literal(policy: str, resources: dict[str, dict[str, Body]], *, region: str, account_id: str) -> str:
    """The policy with the ARN that AWS would make in place of each reference to one.

    A key's id is made up, but always the same. References of other types stay, and a check refuses them.
    """
    for match in list(REFERENCE.finditer(policy)):
        type_, id_ = match[1], match[2]
        body = resources.get(type_, {}).get(id_)
        if type_ in ARNS and body is not None and match[0].endswith(".arn}"):
            policy = policy.replace(match[0], _arn(type_, id_, body, region=region, account_id=account_id))
    return policy


def resolve(estate: Estate, origin: Resource, value: Any) -> Any:
    """The value with what AWS would make in place of each reference. Raises UnknownUntilApplied where none is known."""
    if isinstance(value, dict):
        return {key: resolve(estate, origin, each) for key, each in value.items()}
    if isinstance(value, list):
        return [resolve(estate, origin, each) for each in value]
    if not isinstance(value, str) or "${" not in value:
        return value
    for match in list(REFERENCE.finditer(value)):
        if match[1].startswith("aws_"):
            target = estate.target(origin, match[0])
            if target is None:
                raise UnknownUntilApplied(match[0])
            value = value.replace(match[0], _referred(estate, target, match[0].rpartition(".")[2].rstrip("}")))
    return value


def _referred(estate: Estate, target: Resource, attribute: str) -> str:
    if attribute == "arn" and target.type in ARNS:
        provider = next(stack.provider for stack in estate.stacks if stack.name == target.stack)
        account_id = (provider.get("allowed_account_ids") or [""])[0]
        return _arn(target.type, target.id, target.body, region=provider.get("region", ""), account_id=account_id)
    if attribute == "key_id":
        return str(made_up_id(target.address))
    named = [attribute, *NAMES] if attribute == "id" else [attribute]
    for name in named:
        known = target.body.get(name)
        if isinstance(known, str) and not REFERENCE.search(known):
            return known
    raise UnknownUntilApplied(f"{target.address}.{attribute}")


def _arn(type_: str, id_: str, body: Body, *, region: str, account_id: str) -> str:
    made_up = made_up_id(f"{type_}.{id_}")
    return ARNS[type_].format_map({**body, "region": region, "account": account_id, "uuid": made_up})
