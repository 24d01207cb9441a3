"""`fleet deploy` and `fleet destroy`."""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import click

from fleet_iot.generator.cli.options import allow_option, shown
from fleet_iot.generator.diagnostics import EnvironmentFault, GateError, OutcomeError, RequestError, visible
from fleet_iot.generator.diff.impact import Impact
from fleet_iot.generator.text import duration, table
from fleet_iot.lib.record.place import VARIABLE
from fleet_iot.lib.shared.context import RETENTIONS
from fleet_iot.operations.aws import caller_aws, reporting_aws_errors, role_aws
from fleet_iot.operations.cli.options import PATH, Site, emit, facilities_option, first, json_option, on_aws
from fleet_iot.operations.deployment import engine
from fleet_iot.operations.deployment.bundle import Bundle, impact_of, load, refuse_dangers, stack_digest, verify
from fleet_iot.operations.deployment.devices import refuse_second_certificates, release_policies
from fleet_iot.operations.deployment.state_bucket import CREATING, StateBucket, ensure
from fleet_iot.operations.local import deployment as local_deployment
from fleet_iot.operations.local.aws import PASSPHRASES, LocalAws
from fleet_iot.operations.pki.spent import journals_here
from fleet_iot.operations.registry.known import known_devices
from fleet_iot.operations.terraform import terraform_for

BUNDLES = "deploy"
LOGS = Path(BUNDLES) / "logs"
"""In the build folder."""

CHANGED = 2
"""Exit code of --detailed-exitcode where there are changes, as in Terraform."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of the command line."""

    facilities: tuple[str, ...]
    is_plan_only: bool
    is_detailed: bool
    out: Path | None
    approve: Path | None
    digest: str | None
    allowed: frozenset[Impact]
    is_confirmed: bool
    is_local_state: bool
    creates_bucket: bool = False
    has_endpoint: bool | None
    as_json: bool
    is_destroy: bool


def _options(is_destroy: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options of both commands, and pass them as `options`."""
    verb = "destroyed" if is_destroy else "deployed"

    def wrap(command: Callable[..., None]) -> Callable[..., None]:
        @facilities_option
        @click.option("--plan-only", "is_plan_only", is_flag=True, help="Stop after the plan, which is saved.")
        @click.option("--out", type=PATH, metavar="DIR", help="Folder of the plan (default: in build/deploy).")
        @click.option("--approve", type=PATH, metavar="DIR", help="Apply exactly the plan in DIR.")
        @click.option("--digest", metavar="SHA256", help="Digest that the approved plan must have.")
        @click.option("--detailed-exitcode", "is_detailed", is_flag=True, help="With --plan-only: exit 2 on changes.")
        @allow_option
        @click.option("--yes", "is_confirmed", is_flag=True, help="Ask nothing.")
        @click.option(
            "--endpoint/--no-endpoint",
            "has_endpoint",
            default=None,
            help=f"Whether the devices' endpoint is {verb} (default: "
            f"{'no' if is_destroy else 'with all facilities of an account'}).",
        )
        @click.option("--local-state", "is_local_state", is_flag=True, help="Keep Terraform's state in cdktf.out.")
        @json_option
        @on_aws
        @functools.wraps(command)
        def wrapped(site: Site, **given: Any) -> None:
            facilities = tuple(dict.fromkeys(given.pop("facility_ids")))
            options = Options(facilities=facilities, is_destroy=is_destroy, **given)
            _check(site, options)
            command(site=site, options=options)

        return wrapped

    return wrap


def _check(site: Site, options: Options) -> None:
    """Raise RequestError for options that do not go together, and for an unknown facility."""
    for each in options.facilities:
        if not (options.is_destroy and engine.has_local_state(_stack_of(site, each))):
            site.project.facility(each)
    if options.approve and (options.is_plan_only or options.out or options.facilities or options.has_endpoint):
        raise RequestError("--approve applies what was planned", hint="choose facilities and endpoint with the plan")
    if options.digest and not options.approve:
        raise RequestError("--digest is that of an approved plan", hint="name the plan: --approve DIR")
    if options.allowed and options.is_plan_only:
        raise RequestError(
            "--allow is of the command that applies", hint="give it with --approve, or without --plan-only"
        )
    if options.is_detailed and not options.is_plan_only:
        raise RequestError("--detailed-exitcode is that of a plan", hint="add --plan-only")
    if not site.is_account and (options.is_local_state or options.creates_bucket):
        raise RequestError("the local AWS keeps its states by itself", hint="add --aws for an account")
    if not site.is_account and options.has_endpoint:
        raise RequestError(
            "the local AWS has no endpoint of the devices' own", hint="it is deployed in an account: --aws"
        )


@click.command()
@click.option(
    "--create-state-bucket", "creates_bucket", is_flag=True, help="Create TERRAFORM_STATE_BUCKET where it is missing."
)
@_options(is_destroy=False)
def deploy(site: Site, options: Options) -> None:
    """Plan all stacks, show what changes, and apply exactly that plan.

    Without --aws on the local AWS. The platform comes first, then its facilities, then the devices' endpoint.
    """
    _run(site, options)


@click.command()
@_options(is_destroy=True)
def destroy(site: Site, options: Options) -> None:
    """Destroy all stacks, or those of single facilities.

    The facilities go first, then the endpoint (with --endpoint), then the platform.
    """
    _run(site, options)


def _run(site: Site, options: Options) -> None:
    """Plan or read a plan, and apply it unless the plan is all that is wanted."""
    with _terminable():
        target = _target(site, options)
        with engine.reserved(target.output):
            folder, bundle, digest = _approved(target, options) if options.approve else _planned(target, options)
            if not options.is_destroy:
                refuse_second_certificates(bundle, target.stack, lambda names: _onboarded(site, target, names))
            result = {"bundle": str(folder), "digest": digest, **bundle.document()}
            if not options.is_plan_only:
                if not options.as_json:
                    emit(None, _plan_lines(bundle), as_json=False)
                _confirm(site, bundle, options)
                _before(site, target, bundle)
                done = engine.apply(target, bundle, folder)
                if target.is_local and not options.is_destroy and not done.fault:
                    local_deployment.start_services(_local(site))
    if options.is_plan_only:
        emit(result, [*_plan_lines(bundle), *_next_lines(site, folder, digest, options)], as_json=options.as_json)
        click.get_current_context().exit(CHANGED if options.is_detailed and bundle.has_changes else 0)
    outcomes = [asdict(outcome) for outcome in done.outcomes]
    emit(result | {"outcomes": outcomes}, _outcome_lines(site, done, options), as_json=options.as_json)
    if done.fault:
        raise done.fault


def _output(site: Site) -> Path:
    """Return the folder of the synthesised stacks."""
    if not site.is_account:
        return site.folder.resolve() / "cdktf.out"
    return Path(os.environ.get("FLEET_OUTDIR") or site.project.root / "cdktf.out").resolve()


def _stack_of(site: Site, facility: str) -> Path:
    return _output(site) / "stacks" / f"{engine.FACILITY}{facility}-{site.project.environment_suffix}"


def _say(line: str) -> None:
    click.echo(visible(line), err=True)


def _target(site: Site, options: Options) -> engine.Target:
    """Return where to deploy: the local AWS, or the account, with its state bucket checked."""
    if not site.is_account:
        return local_deployment.target(_local(site), site.project, say=_say)
    aws = site.deployer()
    variables = {name: value for name, value in os.environ.items() if name not in PASSPHRASES}
    variables[VARIABLE] = site.project.environment or ""
    variables["FLEET_ACCOUNT_ID"] = site.project.account_id or aws.account
    if options.is_local_state:
        variables = {name: value for name, value in variables.items() if not name.startswith("TERRAFORM_STATE_")}
    terraform = terraform_for(environment=variables, logs=site.project.build / LOGS, say=_say)
    _say(terraform.provider.said)
    return engine.Target(
        binding=engine.binding(
            site.project,
            account=variables["FLEET_ACCOUNT_ID"],
            region=aws.region,
            state=_state(variables, aws.region, options),
            terraform=terraform,
        ),
        root=site.project.root,
        build=site.project.build,
        output=_output(site),
        declared=frozenset(facility.id for facility in site.project.facilities),
        variables=variables,
        terraform=terraform,
        say=_say,
    )


def _state(variables: Mapping[str, str], region: str, options: Options) -> str:
    """Check or create the state bucket; return where the states are."""
    if options.is_local_state:
        return engine.LOCAL_STATE
    name = variables.get("TERRAFORM_STATE_BUCKET")
    if not name:
        raise EnvironmentFault(
            "TERRAFORM_STATE_BUCKET is not set: where Terraform's states are must be known",
            hint=f"set it; to create the bucket: {CREATING}; for states in cdktf.out: --local-state",
        )
    region = variables.get("TERRAFORM_STATE_BUCKET_REGION") or region
    role = variables.get("TERRAFORM_STATE_ROLE_ARN")
    aws = role_aws(role, region=region) if role else caller_aws(region)
    bucket = StateBucket(
        name=name, region=region, owner=aws.account, key_arn=variables.get("TERRAFORM_STATE_KEY_ARN") or None
    )
    if ensure(aws.client("s3"), bucket, creates=options.creates_bucket):
        _say(f"created the state bucket {name} in {region}")
    return bucket.said


def _local(site: Site) -> LocalAws:
    local = site.aws.local
    assert local is not None  # noqa: S101 - it is no account
    return local


def _planned(target: engine.Target, options: Options) -> tuple[Path, Bundle, str]:
    """Synthesise and plan; return the bundle's folder, the bundle and its digest."""
    stacks = _stacks(target, options)
    folder = options.out or target.build / BUNDLES / target.binding.suffix
    if not options.is_destroy:
        for name in engine.orphans(target, stacks) if not options.facilities else ():
            id_ = name.removeprefix(engine.FACILITY).removesuffix(f"-{target.binding.suffix}")
            _say(f"{name} is deployed and not in the record: fleet destroy --facility {id_}")
    bundle, digest = engine.plan(
        target,
        stacks,
        folder.absolute(),
        facilities=options.facilities,
        is_destroy=options.is_destroy,
    )
    return folder, bundle, digest


def _stacks(target: engine.Target, options: Options) -> tuple[Path, ...]:
    """Return the folders of the stacks to plan."""
    has_endpoint = options.has_endpoint
    if has_endpoint is None:
        has_endpoint = not (target.is_local or options.is_destroy or options.facilities)
    stacks = engine.stacks_of(target, facilities=options.facilities, has_endpoint=has_endpoint)
    if options.is_destroy and options.facilities:
        return tuple(stack for stack in stacks if not stack.name.startswith(engine.PLATFORM))
    if options.is_destroy:
        stacks += tuple(target.stack(name) for name in engine.orphans(target, stacks))
    return stacks


def _approved(target: engine.Target, options: Options) -> tuple[Path, Bundle, str]:
    """Read and verify an approved bundle, and prepare the stacks that it is of."""
    folder = (options.approve or Path()).absolute()
    bundle, digest = load(folder, digest=options.digest)
    if bundle.is_destroy is not options.is_destroy:
        raise RequestError(
            f"the plan in {folder} is one to {'destroy' if bundle.is_destroy else 'deploy'}",
            hint=f"fleet {'destroy' if bundle.is_destroy else 'deploy'} --approve {options.approve}",
        )
    verify(bundle, target.binding)
    names = {stack.name for stack in bundle.stacks}
    has_endpoint = any(name.startswith(engine.ENDPOINT) for name in names)
    engine.stacks_of(target, facilities=bundle.facilities, has_endpoint=has_endpoint)
    for stack in bundle.stacks:
        if stack_digest(target.stack(stack.name)) != stack.stack_sha256:
            raise GateError(
                f"{stack.name} is synthesised to something else than what was planned",
                hint="see whether identities, templates or settings differ; then plan it again",
            )
    engine.compare(target, bundle, folder)
    return folder, bundle, digest


def _onboarded(site: Site, target: engine.Target, names: Collection[str]) -> set[str]:
    """Return the names under which this AWS's journal has a device with a certificate."""
    local = None if site.is_account else site.folder
    with known_devices(journals_here(site.project, local=local, account=target.account)) as journals:
        return {each.row.name for journal in journals for each in journal.by_name(names) if each.is_taken}


def _confirm(site: Site, bundle: Bundle, options: Options) -> None:
    """Refuse what is not allowed; ask a person before an account is changed."""
    verb = "destroy" if options.is_destroy else "deploy"
    if site.is_account or not options.is_destroy:
        command = f"fleet {verb}{' --aws' if site.is_account else ''}"
        refuse_dangers(bundle, allowed=options.allowed, command=command)
    if not site.is_account or options.is_confirmed or options.approve or not bundle.has_changes:
        return
    if sys.stdin.isatty() and not click.confirm(
        f"{verb} {bundle.binding.suffix} in account {bundle.binding.account}, {bundle.binding.region}?", err=True
    ):
        raise OutcomeError("nothing was applied", hint=f"the plan is saved: fleet {verb} --aws --approve DIR")


def _before(site: Site, target: engine.Target, bundle: Bundle) -> None:
    """Before plants are destroyed, refuse where onboarded devices remain, and release their policies."""
    if not bundle.is_destroy:
        return
    stacks = [target.stack(stack.name) for stack in bundle.stacks]
    if target.is_local:
        local_deployment.before_destroy(_local(site), stacks)
        return
    aws = site.deployer()
    with reporting_aws_errors("AWS IoT does not list the devices", hint="check the credentials' rights"):
        release_policies(aws.client("iot"), stacks)


def _plan_lines(bundle: Bundle) -> list[str]:
    stacks = {stack.name: stack for stack in bundle.stacks}
    order = [name for stage in engine.stages(stacks, is_destroy=bundle.is_destroy) for name in stage]
    lines = table([(name, stacks[name].said) for name in order], "<<")
    gone = [
        f"{change.action}: {name}: {change.address}" + (f" ({impact})" if (impact := impact_of(change)) else "")
        for name in order
        for change in stacks[name].changes
        if change.action in ("delete", "replace")
    ]
    dangerous = [line for line in gone if line.endswith(")")]
    return [*lines, *first([*dangerous, *(line for line in gone if line not in dangerous)])]


def _next_lines(site: Site, folder: Path, digest: str, options: Options) -> list[str]:
    verb = "destroy" if options.is_destroy else "deploy"
    return [
        f"saved in {shown(folder)}, digest {digest}",
        f"apply exactly this plan: fleet {verb}{' --aws' if site.is_account else ''} --approve {shown(folder)}",
    ]


def _outcome_lines(site: Site, done: engine.Deployed, options: Options) -> list[str]:
    rows = [
        (
            each.stack,
            each.status,
            f"{each.added:,} added, {each.changed:,} changed, {each.replaced:,} replaced, {each.destroyed:,} destroyed"
            if each.status == "applied"
            else "",
            duration(each.seconds) if each.seconds else "",
        )
        for each in done.outcomes
    ]
    lines = table(rows, "<<<>")
    if options.is_destroy and any(each.stack.startswith(engine.PLATFORM) and each.destroyed for each in done.outcomes):
        days = RETENTIONS[site.project.fleet.retention].key_deletion_days
        lines.append(f"what remains: KMS keys, pending deletion for {days} days")
        if site.is_account and not options.has_endpoint:
            lines.append(
                "and the devices' endpoint, which AWS deletes a week after it was disabled: fleet destroy --endpoint"
            )
    return lines


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM interrupt what runs, as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
