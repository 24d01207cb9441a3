"""Synthesises the whole fleet as for a real account and plans it with the real Terraform and AWS provider, offline.

No AWS endpoint is asked: an override file beside `cdk.tf.json` switches off the provider's look-ups, a stack that is
planned from nothing reads nothing, the credentials are invented, and what the provider asks all the same (for an
on-demand stream, Kinesis's DescribeLimits, whose answer it does not need) goes to an address that refuses connections.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.lib.record.place import VARIABLE
from fleet_iot.operations.assurance.compliance.infrastructure import (
    CREDENTIAL,
    POLICY_ATTRIBUTES,
    Body,
    PlannedInfrastructure,
    literal,
    read_stack,
)
from fleet_iot.operations.pki.csr import csr_path, sign_request, write_requests
from fleet_iot.operations.project import Project
from fleet_iot.operations.terraform import Terraform, run_synthesis, terraform_for

STACK_FILE = "cdk.tf.json"
OVERRIDE_FILE = "compliance_override.tf.json"
PLAN_DOCUMENT = "plan.json"

PROVIDER_SETTINGS: Body = {
    "skip_credentials_validation": True,
    "skip_requesting_account_id": True,
    "skip_region_validation": True,
    "skip_metadata_api_check": "true",
    "max_retries": 1,
    "allowed_account_ids": None,  # the provider refuses it together with an account id that it may not ask for
}

AT_ONCE = 2
"""Each Terraform with its provider needs some 600 MB and most of a core."""

ACCOUNT_ID = "123456789012"
"""A literal account makes ARNs, and so policies, complete; AWS's documentation uses this one for examples."""

UNWANTED = ("FLEET_", "TERRAFORM_STATE_", "CDKTF_")
"""Settings of the user that would change the stacks of the committed fleet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthesised:
    """The folders of all stacks, and how many CSRs went into them."""

    stacks: tuple[Path, ...]
    csrs: int


def synthesise(project: Project, *, folder: Path, account_id: str = ACCOUNT_ID) -> Synthesised:
    """Synthesise every stack of `project` below `folder`, for an account, deleting an earlier run's.

    The keys of the CSRs are never written.
    """
    output, identities = folder / "cdktf.out", folder / "identities"
    for old in (output, identities):
        shutil.rmtree(old, ignore_errors=True)
    csrs = _write_csrs(project, identities)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(UNWANTED)} | {
        VARIABLE: project.environment or "",
        "ENVIRONMENT_SUFFIX": project.environment_suffix,
        "FLEET_ACCOUNT_ID": account_id,
        "FLEET_IDENTITIES": str(identities),
        "FLEET_REQUIRE_CSRS": "1",
        "FLEET_OUTDIR": str(output),
    }
    run_synthesis(project.root, environment)
    return Synthesised(stacks=tuple(sorted((output / "stacks").iterdir())), csrs=csrs)


def _write_csrs(project: Project, identities: Path) -> int:
    """Write a CSR for each thing that Terraform registers; return their number."""
    written = 0
    for facility in project.facilities:
        if facility.registration != "terraform":
            continue
        requests = {
            thing.name: sign_request(thing.name, ec.generate_private_key(ec.SECP256R1()))
            for thing in project.things(facility)
        }
        write_requests(csr_path(identities, project.environment_suffix, facility.id), requests)
        written += len(requests)
    return written


def plan_stacks(
    stacks: Iterable[Path],
    *,
    environment_suffix: str,
    retention: str,
    region: str,
    account_id: str,
    logs: Path,
    data_events: str = "all",
) -> PlannedInfrastructure:
    """Plan every stack, leave the plan's document in its folder, and return what would be made. Raises FleetError."""
    stacks = tuple(stacks)
    with refusing_address() as address:
        terraform = terraform_for(environment=offline_environment(os.environ, address=address), logs=logs)
        for stack in stacks:
            prepare(stack, region=region, account_id=account_id)
            terraform.init(stack)
        with ThreadPoolExecutor(max_workers=AT_ONCE) as workers:
            try:
                plans = dict(zip(stacks, workers.map(lambda stack: _plan(terraform, stack), stacks), strict=True))
            except BaseException:
                terraform.interrupt()
                raise
    read = [
        read_stack(
            stack.name,
            synthesised=json.loads((stack / STACK_FILE).read_bytes()),
            plan=plan,
            plan_text=json.dumps(plan),
        )
        for stack, plan in plans.items()
    ]
    return PlannedInfrastructure(
        environment_suffix=environment_suffix,
        retention=retention,
        data_events=data_events,
        stacks=tuple(stack for stack, _ in read),
        resources=tuple(resource for _, resources in read for resource in resources),
    )


@contextmanager
def refusing_address() -> Iterator[str]:
    """Reserve an address on this machine that refuses every connection."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def offline_environment(environment: Mapping[str, str], *, address: str) -> dict[str, str]:
    """Return the environment with invented credentials and `address` as AWS's endpoint, without the user's settings."""
    return {name: value for name, value in environment.items() if not name.startswith("AWS_")} | {
        "AWS_ACCESS_KEY_ID": "made-up",
        "AWS_SECRET_ACCESS_KEY": CREDENTIAL,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": address,
    }


def prepare(stack: Path, *, region: str, account_id: str) -> None:
    """Make the policies of a synthesised stack literal, and write the override that plans it offline."""
    document = json.loads((stack / STACK_FILE).read_bytes())
    resources = document.get("resource", {})
    for type_, (attribute, _) in POLICY_ATTRIBUTES.items():
        for body in resources.get(type_, {}).values():
            if isinstance(body.get(attribute), str):
                body[attribute] = literal(body[attribute], resources, region=region, account_id=account_id)
    (stack / STACK_FILE).write_text(json.dumps(document, indent=2) + "\n")
    override = {"provider": {"aws": [PROVIDER_SETTINGS]}}
    (stack / OVERRIDE_FILE).write_text(json.dumps(override, indent=2) + "\n")


def _plan(terraform: Terraform, stack: Path) -> Body:
    plan = terraform.plan_document(stack)
    if not plan.get("complete", True) or plan.get("errored"):
        raise EnvironmentFault(f"the plan of {stack.name} is not complete", hint=f"see {terraform.log(stack)}")
    (stack / PLAN_DOCUMENT).write_text(json.dumps(plan))
    return plan
