"""`fleet onboard`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from cryptography import x509
from rich.progress import TextColumn

from fleet_iot.generator.diagnostics import EnvironmentFault, FleetError, OutcomeError, RequestError
from fleet_iot.generator.diff.calls import QUOTAS
from fleet_iot.generator.text import counted, duration
from fleet_iot.lib.specs import FacilitySpec
from fleet_iot.operations.cli.options import (
    PATH,
    SHOWN,
    Site,
    device_type_option,
    emit,
    emit_errors,
    json_option,
    on_aws,
    required_facility,
)
from fleet_iot.operations.lists.formats import FORMATS, open_source
from fleet_iot.operations.lists.infineon import BUNDLES
from fleet_iot.operations.lists.material import read_certificate
from fleet_iot.operations.pki.csr import csr_path
from fleet_iot.operations.pki.keystore import identities_folder
from fleet_iot.operations.progress import Progress
from fleet_iot.operations.registry import runner
from fleet_iot.operations.registry.bulk import upload_url
from fleet_iot.operations.registry.calls import Quotas
from fleet_iot.operations.registry.journal import Journal
from fleet_iot.operations.registry.preparation import (
    Forecast,
    Pairing,
    Request,
    count_differing,
    forecast,
    own_requests,
)
from fleet_iot.operations.registry.runner import RunResult
from fleet_iot.operations.registry.steps import Meter
from fleet_iot.operations.registry.target import Target, target_of

VIAS = ("api", "aws-bulk")
_RETIRE = "a revoked device stays so: retire it, and onboard one with another key in its place"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """The order of the command line: what to onboard, at which site."""

    site: Site
    facility: FacilitySpec
    list_path: Path | None
    format_name: str
    bundle: str | None
    signers: Path | None
    issuers: tuple[Path, ...]
    crls: tuple[Path, ...]
    reuse_retired: bool
    device_type: str | None
    by_order: bool
    ignored: tuple[str, ...]
    stage: bool
    via: str
    policy_on: str
    reason: str

    @property
    def is_bulk(self) -> bool:
        return self.via == "aws-bulk"

    def check(self) -> None:
        """Raise RequestError for a device type that the facility does not have."""
        if self.device_type not in {None, *(group.device_type for group in self.facility.groups)}:
            raise RequestError(f"{self.facility.id} has no device type {self.device_type!r}", hint="see fleet.yaml")

    def request(self, policy_on: str | None) -> Request:
        """Open the list. `policy_on` is the broker's, where it leaves no choice."""
        project, facility = self.site.project, self.facility
        if self.list_path is None:
            path = csr_path(identities_folder(project), project.environment_suffix, facility.id)
            source = own_requests(path, facility.id)
        else:
            source = open_source(self.list_path, format_name=self.format_name, bundle=self.bundle, signers=self.signers)
        return Request(
            facility=facility,
            source=source,
            issuers=tuple(map(_issuer, self.issuers)),
            device_type=self.device_type,
            reason=self.reason,
            is_staged=self.stage,
            policy_on="certificate" if self.is_bulk else policy_on or self.policy_on,
            is_bulk=self.is_bulk,
            by_order=self.by_order,
            ignored=self.ignored,
            reuses_retired=self.reuse_retired,
            crls=self.crls,
        )

    @contextmanager
    def opened(self) -> Iterator[tuple[Target, Journal]]:
        """Open the journal of the site's AWS, locked for this facility."""
        target = target_of(self.site.project, self.site.aws)
        with (
            runner.facility_lock(target.journal, self.facility.id),
            runner.opened_journal(self.site.project, target, local=self.site.folder) as journal,
        ):
            yield target, journal


@click.command()
@required_facility
@click.option("--from", "list_path", type=PATH, metavar="FILE", help="The list (default: the project's own CSRs).")
@click.option("--format", "format_name", type=click.Choice(("auto", *FORMATS)), default="auto", show_default=True)
@click.option("--bundle", type=click.Choice(BUNDLES), help="Which certificates of an Infineon archive.")
@click.option("--signers", type=PATH, metavar="FOLDER", help="Signer certificates of a Microchip manifest.")
@click.option("--issuer", "issuers", type=PATH, multiple=True, metavar="FILE", help="Who signed the certificates.")
@click.option("--crl", "crls", type=PATH, multiple=True, metavar="FILE", help="CRL of an issuer; may be repeated.")
@click.option("--reuse-retired", is_flag=True, help="Accept keys that were retired (never those revoked).")
@device_type_option("Type of the devices that the list does not name.")
@click.option("--by-order", is_flag=True, help="Assign rows that name no planned thing to the next free ones.")
@click.option("--ignore", "ignored", multiple=True, metavar="HEADING", help="A column that names no device.")
@click.option("--dry-run", is_flag=True, help="Forecast results, calls and time; change nothing.")
@click.option("--resume", is_flag=True, help="Continue the onboarding that was interrupted.")
@click.option("--stage", is_flag=True, help="Leave the certificates inactive until --activate.")
@click.option("--activate", is_flag=True, help="Activate what was staged for the facility.")
@click.option("--via", type=click.Choice(VIAS), default="api", show_default=True,
              help="Calls from here, or AWS IoT's own bulk registration.")  # fmt: skip
@click.option("--policy-on", type=click.Choice(("group", "certificate")), default="group", show_default=True)
@click.option("--reason", default="", metavar="TEXT", help="Why, for the journal.")
@on_aws
@json_option
def onboard(
    site: Site, facility_id: str, dry_run: bool, resume: bool, activate: bool, as_json: bool, **asked: Any
) -> None:
    """Register the devices of a list, each under its own certificate; exit 1 where some were not."""
    if resume + activate + dry_run > 1 or ((resume or activate) and asked["list_path"] is not None):
        raise click.UsageError("--resume and --activate exclude a list and each other: they continue from the journal")
    if asked["via"] == "aws-bulk" and not site.is_account:
        raise click.UsageError("the local AWS has no bulk registration of AWS IoT's own: use --aws, or --via api")
    order = _Order(site=site, facility=site.project.facility(facility_id), **asked)
    order.check()
    if dry_run:
        _print_forecast(order, as_json=as_json)
    elif activate:
        _activate(order, as_json=as_json)
    else:
        _run(order, resume=resume, as_json=as_json)


def _print_forecast(order: _Order, *, as_json: bool) -> None:
    """Forecast with the journal and the quotas of the chosen AWS, or AWS's defaults where no local AWS is up."""
    target: Target | None = None
    try:
        target = target_of(order.site.project, order.site.aws)
    except EnvironmentFault:
        if order.site.is_account:
            raise
    project, request = order.site.project, order.request(target.policy_on if target else None)
    upload = upload_url(project, order.facility, target.account) if request.is_bulk and target else None
    defaults = Quotas(per_second={api: float(quota) for api, quota in QUOTAS.items()}, is_live=False)
    quotas = (target.quotas if target else None) or defaults
    if target is None or not target.journal.exists():
        found = forecast(project, request, journal=None, quotas=quotas, upload=upload)
    else:
        with runner.opened_journal(project, target, local=order.site.folder) as journal:
            found = forecast(project, request, journal=journal, quotas=quotas, upload=upload)
            _print_differing(order, journal)
    emit(found, _forecast_lines(found), as_json=as_json)
    if found.faults:
        raise FleetError(
            f"{counted(found.faults, 'row')} would not be onboarded", hint="correct them, or leave them out"
        )


def _activate(order: _Order, *, as_json: bool) -> None:
    facility = order.facility
    with order.opened() as (target, journal), Display("activating", ceiling=None) as display:
        done = runner.activate(order.site.project, facility, target=target, journal=journal, on_progress=display.show)
    counted = {"activated": done.count} | ({"refused": dict(done.refused)} if done.refused else {})
    emit(counted, [f"{facility.id}: {done.count} devices activated"], as_json=as_json)
    if done.refused:
        lines = "; ".join(f"{thing} {why}" for thing, why in done.refused[:SHOWN])
        raise FleetError(f"{len(done.refused)} devices were not activated: {lines}", hint=_RETIRE)
    if not done.count:
        raise OutcomeError(f"nothing of {facility.id} is staged", hint="onboard it with --stage first")


def _run(order: _Order, *, resume: bool, as_json: bool) -> None:
    """Start a run, or resume the one that was interrupted, and print its outcome."""
    project, already, pairing = order.site.project, 0, None
    with order.opened() as (target, journal):
        if resume:
            run = journal.unfinished(order.facility.id)
            if run is None:
                raise RequestError(
                    f"{order.facility.id} has no interrupted onboarding", hint="start one without --resume"
                )
        else:
            started = runner.start(project, order.request(target.policy_on), target, journal)
            run, already, pairing = started.run, started.already, started.pairing
            emit_errors(_pairing_lines(pairing))
        with Display("onboarding", ceiling=runner.ceiling_of(journal, run, target.quotas)) as display:
            outcome = runner.perform(
                project,
                run,
                target=target,
                journal=journal,
                on_progress=display.show,
                already=already,
                by_api=resume and _is_given("via") and not order.is_bulk,
                asks_to_stop=lambda: _asks_to_stop(display),
            )
        result = asdict(outcome) | ({"pairing": asdict(pairing)} if pairing else {})
        emit(result, _outcome_lines(outcome), as_json=as_json)
        _print_differing(order, journal)
    if outcome.failed:
        raise FleetError(
            f"{counted(outcome.failed, 'row')} not onboarded",
            hint=f"why: reasons.jsonl in {Path(outcome.failures).parent}" if outcome.failures else None,
        )


def _print_differing(order: _Order, journal: Journal) -> None:
    count, facility = count_differing(order.site.project, order.facility, journal), order.facility.id
    if count:
        click.echo(
            f"{count:,} onboarded things of {facility} differ from the record: fleet device sync --facility {facility}",
            err=True,
        )


def _is_given(option: str) -> bool:
    source = click.get_current_context().get_parameter_source(option)
    return source is click.core.ParameterSource.COMMANDLINE


def _asks_to_stop(display: Display) -> bool:
    """Ask whether to stop AWS IoT's task; no, where there is no terminal."""
    with display.paused():
        return sys.stdin.isatty() and click.confirm("Stop AWS IoT's bulk registration too?", default=False, err=True)


def _issuer(path: Path) -> x509.Certificate:
    try:
        return read_certificate(path.read_bytes())
    except (OSError, ValueError):
        raise EnvironmentFault(f"{path} is no certificate", hint="--issuer takes an authority's") from None


QUOTAS_OF = {"live": "the account's quotas", "AWS's defaults": "AWS's default quotas"}
"""The words of a forecast for where its quotas are from."""


def _forecast_lines(found: Forecast) -> list[str]:
    lines = [
        f"{found.facility}: {counted(found.rows, 'row')} ({found.format}): {found.pairs:,} would be onboarded, "
        f"{found.already:,} are already, {found.faults:,} cannot be; {found.unpaired:,} planned things get none",
        *_pairing_lines(found.pairing),
        *([f"AWS IoT's own task would make these calls, from a file below {found.upload}"] if found.upload else []),
        *(f"{api}: {counted(count, 'call')}" for api, count in found.calls.items()),
    ]
    if found.slowest:
        lines.append(f"at least {duration(found.seconds)}, by {found.slowest} (5 % below {QUOTAS_OF[found.quotas]})")
    lines += found.first_faults
    if found.faults > len(found.first_faults):
        lines.append(f"and {found.faults - len(found.first_faults):,} more")
    return lines


def _outcome_lines(outcome: RunResult) -> list[str]:
    share = f", {outcome.rate / outcome.ceiling:.0%} of the quota" if outcome.ceiling else ""
    lines = [
        f"{outcome.facility}: {outcome.onboarded:,} onboarded, {outcome.already:,} were already, "
        f"{outcome.failed:,} failed of {outcome.rows:,} rows; {outcome.rate:.1f}/s{share}, "
        f"{sum(outcome.calls.values()):,} calls, {outcome.throttles} throttled"
    ]
    if outcome.failures:
        lines.append(f"failed rows, to be corrected and run again: {outcome.failures} (why: reasons.jsonl beside it)")
    lines += [f"certificate without a device, delete it: {certificate}" for certificate in outcome.orphans]
    return lines


def _pairing_lines(pairing: Pairing) -> list[str]:
    """Say how rows were paired: a line of counts, and one for each of the first pairs."""
    if not pairing.ways:
        return []
    counts = ", ".join(f"{count:,} by {way}" for way, count in pairing.ways.items())
    return [f"paired: {counts}", *(f"  {pair}" for pair in pairing.first)]


class Display(Progress):
    """Show devices done, the rate, its share of the quotas, failures and the time left; use as a context manager."""

    def __init__(self, task: str, *, ceiling: float | None) -> None:
        """`ceiling` is the devices a second that the quotas allow; None where there are no quotas."""
        super().__init__(task, last=TextColumn("{task.fields[text]}"))
        self._ceiling = ceiling

    def show(self, meter: Meter) -> None:
        """Show the meter."""
        done, text = meter.done + meter.failed, self._text(meter)
        self.update(f"{done:,} of {meter.total:,}, {text}", done=done, total=meter.total, text=text)

    def _text(self, meter: Meter) -> str:
        words = [f"{meter.rate:.1f}/s"]
        if self._ceiling:
            words.append(f"{meter.rate / self._ceiling:.0%} of the quota")
        words.append(f"{meter.failed:,} failed")
        if meter.rate > 0:
            words.append(f"{duration((meter.total - meter.done - meter.failed) / meter.rate)} left")
        return ", ".join(words)
