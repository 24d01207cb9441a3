"""`fleet onboard`: registers every device of a list under its own certificate, or says which failed and why."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click
from cryptography import x509

from fleet_iot.generator.cli.completion import complete_facility
from fleet_iot.generator.diagnostics import EnvironmentFault, FleetError, OutcomeError, RequestError, visible
from fleet_iot.generator.diff.calls import QUOTAS
from fleet_iot.generator.manifest.project import find_project
from fleet_iot.operations.cli.onboard_progress import Display, duration, pairing_text
from fleet_iot.operations.lists.formats import FORMATS, open_source
from fleet_iot.operations.lists.infineon import BUNDLES
from fleet_iot.operations.lists.material import read_certificate
from fleet_iot.operations.pki.csr import csr_path
from fleet_iot.operations.pki.keystore import identities_folder
from fleet_iot.operations.project import Project, load_project
from fleet_iot.operations.registry import preparation as onboarding
from fleet_iot.operations.registry import runner as performing
from fleet_iot.operations.registry.bulk import upload_url
from fleet_iot.operations.registry.calls import Quotas
from fleet_iot.operations.registry.preparation import Forecast, Request
from fleet_iot.operations.registry.runner import Outcome, facility_lock
from fleet_iot.operations.registry.target import Target, aws_target, local_target

_PATH = click.Path(path_type=Path)
VIAS = ("api", "aws-bulk")
_TOLD = 20
_RETIRE = "a revoked device stays so: retire it, and onboard one with another key in its place"


@click.command()
@click.option("--facility", "facility_id", required=True, metavar="ID", shell_complete=complete_facility)
@click.option("--from", "list_path", type=_PATH, metavar="FILE", help="The list (default: the project's own CSRs).")
@click.option("--format", "format_name", type=click.Choice(("auto", *FORMATS)), default="auto", show_default=True)
@click.option("--bundle", type=click.Choice(BUNDLES), help="Which certificates of an Infineon archive.")
@click.option("--signers", type=_PATH, metavar="FOLDER", help="Signer certificates of a Microchip manifest.")
@click.option("--issuer", "issuers", type=_PATH, multiple=True, metavar="FILE", help="Who signed the certificates.")
@click.option("--crl", "crls", type=_PATH, multiple=True, metavar="FILE", help="What an issuer revoked; repeatable.")
@click.option("--reuse-retired", is_flag=True, help="Take keys back that were retired (never those revoked).")
@click.option("--device-type", metavar="ID", help="Of which type the devices are that the list does not name.")
@click.option("--by-order", is_flag=True, help="Give rows that name no planned thing the next free ones, in order.")
@click.option("--ignore", "ignored", multiple=True, metavar="HEADING", help="A column that names no device.")
@click.option("--dry-run", is_flag=True, help="Say what would happen, how many calls, how long; change nothing.")
@click.option("--resume", is_flag=True, help="Go on with the onboarding that was cut off.")
@click.option("--stage", is_flag=True, help="Leave the certificates inactive until --activate.")
@click.option("--activate", is_flag=True, help="Activate what was staged for the facility.")
@click.option(
    "--via",
    type=click.Choice(VIAS),
    default="api",
    show_default=True,
    help="Call by call from here, or by AWS IoT's own bulk registration.",
)
@click.option("--policy-on", type=click.Choice(("group", "certificate")), default="group", show_default=True)
@click.option("--reason", default="", metavar="TEXT", help="Why, for the journal.")
@click.option("--dir", "folder", type=_PATH, default=Path("build/local"), show_default=True, help="The local AWS.")
@click.option("--aws", is_flag=True, help="Onboard to the AWS account of the credentials, not to the local AWS.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def onboard(
    facility_id: str,
    list_path: Path | None,
    format_name: str,
    bundle: str | None,
    signers: Path | None,
    issuers: tuple[Path, ...],
    crls: tuple[Path, ...],
    reuse_retired: bool,
    device_type: str | None,
    by_order: bool,
    ignored: tuple[str, ...],
    dry_run: bool,
    resume: bool,
    stage: bool,
    activate: bool,
    via: str,
    policy_on: str,
    reason: str,
    folder: Path,
    aws: bool,
    as_json: bool,
) -> None:
    """Register the devices of a list, each under its own certificate; exit 1 where some were not."""
    if resume + activate + dry_run > 1 or ((resume or activate) and list_path is not None):
        raise click.UsageError("--resume and --activate stand alone: they take what the journal has")
    is_bulk = via == "aws-bulk"
    if is_bulk and not aws:
        raise click.UsageError("the local AWS has no bulk registration of AWS IoT's own: use --aws, or --via api")
    project = load_project(find_project(Path.cwd()))
    facility = project.facility(facility_id)

    def asked(policy: str) -> Request:
        path = csr_path(identities_folder(project), project.environment_suffix, facility.id)
        source = (
            open_source(list_path, format_name=format_name, bundle=bundle, signers=signers)
            if list_path is not None
            else onboarding.own_requests(path, facility.id)
        )
        if device_type is not None and device_type not in {group.device_type for group in facility.groups}:
            raise RequestError(f"{facility.id} has no device type {device_type!r}", hint="see fleet.yaml")
        return Request(
            facility=facility,
            source=source,
            issuers=tuple(map(_issuer, issuers)),
            device_type=device_type,
            reason=reason,
            is_staged=stage,
            policy_on="certificate" if is_bulk else policy,
            is_bulk=is_bulk,
            by_order=by_order,
            ignored=ignored,
            reuses_retired=reuse_retired,
            crls=crls,
        )

    if dry_run:
        told = _forecast(project, asked, folder=folder, aws=aws, policy_on=policy_on)
        click.echo(json.dumps(asdict(told)) if as_json else _forecast_text(told))
        if told.faults:
            raise FleetError(f"{told.faults:,} rows would not be onboarded", hint="correct them, or leave them out")
        return
    target = aws_target(project) if aws else local_target(project, folder)
    with (
        facility_lock(target.journal, facility.id),
        performing.opened_journal(project, target, local=folder) as journal,
    ):
        if activate:
            with Display("activating", ceiling=None) as display:
                done = performing.activate(project, facility, target=target, journal=journal, on_progress=display.show)
            counted = {"activated": done.count} | ({"refused": dict(done.refused)} if done.refused else {})
            click.echo(json.dumps(counted) if as_json else f"{facility.id}: {done.count} devices activated")
            if done.refused:
                lines = "; ".join(f"{thing} {why}" for thing, why in done.refused[:_TOLD])
                raise FleetError(f"{len(done.refused)} devices were not activated: {lines}", hint=_RETIRE)
            if not done.count:
                raise OutcomeError(f"nothing of {facility.id} is staged", hint="onboard it with --stage first")
            return
        already, pairing = 0, None
        if resume:
            run = journal.unfinished(facility.id)
            if run is None:
                raise RequestError(f"no onboarding of {facility.id} was cut off", hint="start one without --resume")
        else:
            started = performing.start(project, asked(target.policy_on or policy_on), target, journal)
            run, already, pairing = started.run, started.already, started.pairing
            for line in pairing_text(pairing):
                click.echo(line, err=True)
        with Display("onboarding", ceiling=performing.ceiling_of(journal, run, target.quotas)) as display:
            outcome = performing.perform(
                project,
                run,
                target=target,
                journal=journal,
                on_progress=display.show,
                already=already,
                by_api=resume and _is_said("via") and not is_bulk,
                asks_to_stop=lambda: _asks_to_stop(display),
            )
        paired = {"pairing": asdict(pairing)} if pairing else {}
        click.echo(json.dumps(asdict(outcome) | paired) if as_json else _outcome_text(outcome))
        _say_differing(onboarding.count_differing(project, facility, journal), facility.id)
        if outcome.failed:
            raise FleetError(
                f"{outcome.failed} rows were not onboarded",
                hint=f"why: reasons.jsonl in {Path(outcome.failures).parent}" if outcome.failures else None,
            )


def _forecast(project: Project, asked: object, *, folder: Path, aws: bool, policy_on: str) -> Forecast:
    """The forecast, with the journal and the quotas of the AWS that was asked for, where it can be reached."""
    target: Target | None = None
    try:
        target = aws_target(project) if aws else local_target(project, folder)
    except EnvironmentFault:
        if aws:
            raise
    assert callable(asked)  # noqa: S101 - the command's own function
    request = asked((target.policy_on if target else None) or policy_on)
    upload = upload_url(project, request.facility, target.account) if request.is_bulk and target else None
    defaults = Quotas(per_second={api: float(quota) for api, quota in QUOTAS.items()}, is_live=False)
    quotas = target.quotas if target and target.quotas else defaults
    if target is None or not target.journal.exists():
        return onboarding.forecast(project, request, journal=None, quotas=quotas, upload=upload)
    with performing.opened_journal(project, target, local=folder) as journal:
        told = onboarding.forecast(project, request, journal=journal, quotas=quotas, upload=upload)
        _say_differing(onboarding.count_differing(project, request.facility, journal), request.facility.id)
        return told


def _say_differing(count: int, facility: str) -> None:
    if count:
        click.echo(
            f"{count:,} onboarded things of {facility} differ from the record: fleet device sync --facility {facility}",
            err=True,
        )


def _is_said(option: str) -> bool:
    """Whether the option stands on the command line."""
    source = click.get_current_context().get_parameter_source(option)
    return source is click.core.ParameterSource.COMMANDLINE


def _asks_to_stop(display: Display) -> bool:
    """Whether to stop AWS IoT's task; nobody is asked where there is no terminal."""
    with display.paused():
        return sys.stdin.isatty() and click.confirm("Stop AWS IoT's bulk registration too?", default=False, err=True)


def _issuer(path: Path) -> x509.Certificate:
    try:
        return read_certificate(path.read_bytes())
    except (OSError, ValueError):
        raise EnvironmentFault(f"{path} is no certificate", hint="--issuer takes an authority's") from None


def _forecast_text(told: Forecast) -> str:
    lines = [
        f"{told.facility}: {told.rows:,} rows ({told.format}): {told.pairs:,} would be onboarded, {told.already:,} are "
        f"already, {told.faults:,} cannot be; {told.unpaired:,} planned things get none",
        *pairing_text(told.pairing),
        *([f"AWS IoT's own task would make these calls, from a file below {told.upload}"] if told.upload else []),
        *(f"{api}: {count:,} calls" for api, count in told.calls.items()),
    ]
    if told.slowest:
        lines.append(f"at least {duration(told.seconds)}, by {told.slowest} ({told.quotas} quotas, 5 % below)")
    lines += [visible(fault) for fault in told.first_faults]
    if told.faults > len(told.first_faults):
        lines.append(f"and {told.faults - len(told.first_faults):,} more")
    return "\n".join(lines)


def _outcome_text(told: Outcome) -> str:
    share = f", {told.rate / told.ceiling:.0%} of the quota" if told.ceiling else ""
    lines = [
        f"{told.facility}: {told.onboarded:,} onboarded, {told.already:,} were already, {told.failed:,} failed "
        f"of {told.rows:,} rows; {told.rate:.1f}/s{share}, {sum(told.calls.values()):,} calls, "
        f"{told.throttles} throttled"
    ]
    if told.failures:
        lines.append(f"failed rows, to be corrected and run again: {told.failures} (why: reasons.jsonl beside it)")
    lines += [f"certificate without a device, delete it: {certificate}" for certificate in told.orphans]
    return "\n".join(lines)
