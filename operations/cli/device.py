"""`fleet device` and `fleet certificates`."""

from __future__ import annotations

import functools
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import click

from fleet_iot.generator.cli.completion import complete_facility, complete_thing
from fleet_iot.generator.diagnostics import EnvironmentFault, OutcomeError, RequestError
from fleet_iot.generator.text import counted, table
from fleet_iot.lib.specs import FacilitySpec
from fleet_iot.operations.aws import Aws, local_folder
from fleet_iot.operations.cli.options import (
    PATH,
    Site,
    emit,
    emit_rows,
    facilities_option,
    facility_option,
    json_option,
    on_aws,
    required_facility,
    things_argument,
)
from fleet_iot.operations.local.aws import PASSPHRASES
from fleet_iot.operations.pki.csr import csr_path, places_of, things_of
from fleet_iot.operations.pki.keystore import HEADER, KeyStore, identities_folder, keys_folder, open_store
from fleet_iot.operations.pki.spent import journals_here
from fleet_iot.operations.progress import Progress
from fleet_iot.operations.project import Project
from fleet_iot.operations.registry.adopt import StackState
from fleet_iot.operations.registry.adopt import adopt as adopt_devices
from fleet_iot.operations.registry.device import (
    DeviceView,
    Registered,
    check_activation,
    check_retirement,
    check_revocation,
    find_thing,
    id_of,
    request_of,
    show_device,
)
from fleet_iot.operations.registry.device import activate as activate_device
from fleet_iot.operations.registry.device import retire as retire_device
from fleet_iot.operations.registry.device import revoke as revoke_device
from fleet_iot.operations.registry.expiry import PlantCertificates, expiry
from fleet_iot.operations.registry.journal import Journal
from fleet_iot.operations.registry.known import known_devices
from fleet_iot.operations.registry.move import MoveRequest, Renewal, move_all
from fleet_iot.operations.registry.names import resolve
from fleet_iot.operations.registry.registered import refuse_shared_lock, shared_identities
from fleet_iot.operations.registry.rotate import (
    DeviceKeys,
    Rotation,
    begin_rotation,
    check_finish,
    check_rotation,
    finish_rotation,
    refuse_unseen,
)
from fleet_iot.operations.registry.runner import calls_of, facility_lock, groups_of, opened_journal, work_of
from fleet_iot.operations.registry.states import DeviceState, Registry, State, list_states
from fleet_iot.operations.registry.steps import Work
from fleet_iot.operations.registry.sync import Synced
from fleet_iot.operations.registry.sync import sync as sync_things
from fleet_iot.operations.registry.target import target_of


@dataclass(frozen=True, slots=True, kw_only=True)
class _Registry:
    """The project's devices in the chosen AWS: its journal, and what works on them."""

    project: Project
    journal: Journal
    work: Work
    aws: Aws

    def finishable(self, *, force: bool) -> Callable[[Work, Registered], object]:
        """Return the check of rotations that are to be finished; of plants that Terraform registers, it reads which
        certificate the device uses, unless that is forced."""

        def check(work: Work, device: Registered) -> None:
            new = check_finish(work, device)["new"]
            if device.own_keys is not None and not force:
                names = self.project.names
                refuse_unseen(self.aws.client("dynamodb"), names.devices_table, device.thing.name, id_of(new))

        return check

    def warn(self, chosen: Iterable[Registered]) -> None:
        """Warn on stderr where the local AWS's identities are an account's too, and the things have keys in them."""
        if any(each.own_keys is not None for each in chosen):
            self.warn_of_identities()

    def warn_of_identities(self) -> None:
        """Warn on stderr where the local AWS's identities are an account's too."""
        if self.aws.local is not None and (warning := shared_identities(self.project)):
            click.echo(warning, err=True)

    def state_of(self, facility: FacilitySpec) -> StackState:
        """Return Terraform's state of the facility's stack."""
        name, local = f"facility-{facility.id}-{self.project.environment_suffix}", self.aws.local
        if local is not None:
            return StackState(folder=local.output / "stacks" / name, environment=local.environment(), logs=local.logs)
        output = Path(os.environ.get("FLEET_OUTDIR") or self.project.root / "cdktf.out").resolve()
        variables = {key: value for key, value in os.environ.items() if key not in PASSPHRASES}
        return StackState(folder=output / "stacks" / name, environment=variables, logs=self.project.build / "terraform")

    def found(self, name: str) -> tuple[Work, Registered]:
        """Find a thing, and what works on the things of its facility."""
        found = find_thing(self.project, self.journal, name)
        groups = groups_of(self.project, found.facility, device_type=found.thing.device_type)
        return replace(self.work, groups=groups), found

    def all_found(
        self, names: tuple[str, ...], check: Callable[[Work, Registered], object] = lambda work, device: None
    ) -> list[tuple[Work, Registered]]:
        """Find things, each once, in the order in which they were named.

        Raises what `check` raises for one of them before anything is done for the first: much of what is done here
        cannot be undone.
        """
        found = {device.thing.name: (work, device) for work, device in map(self.found, names)}
        for work, device in found.values():
            check(work, device)
        return list(found.values())


def _on_registry(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that choose the AWS, and pass its `registry`."""

    @on_aws
    @functools.wraps(command)
    def wrapped(site: Site, **arguments: Any) -> None:
        if facility := arguments.get("facility_id") or arguments.get("facility"):
            site.project.facility(facility)  # before any AWS is looked for
        if said := arguments.get("things"):
            arguments["things"] = tuple(dict.fromkeys(site.thing(each).name for each in said))
        if (name := arguments.get("name")) and facility:
            to = site.project.facility(facility)
            arguments["name"] = resolve(site.project, name, facility=to).name
        with _opened(site) as registry:
            command(registry=registry, **arguments)

    return wrapped


@contextmanager
def _opened(site: Site) -> Iterator[_Registry]:
    project, target = site.project, target_of(site.project, site.aws)
    with opened_journal(project, target, local=site.folder) as journal:
        # Of any facility: each device brings the groups of its own.
        facility = project.facilities[0]
        work = work_of(project, target, journal, facility=facility, is_staged=False, policy_on="group")
        try:
            yield _Registry(project=project, journal=journal, work=work, aws=site.aws)
        finally:
            work.calls.pacer.close()


def _reason_given(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Strip the reason. Raises BadParameter for an empty one."""
    if not value.strip():
        raise click.BadParameter("is empty: say why, for the history", context, parameter)
    return value.strip()


_reason = click.option(
    "--reason", required=True, callback=_reason_given, metavar="TEXT", help="Why, for the device's history."
)


def _reason_or(default: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add --reason with a default."""
    return click.option(
        "--reason",
        default=default,
        show_default=True,
        callback=_reason_given,
        metavar="TEXT",
        help="For the histories.",
    )


class _Days(click.ParamType[int]):
    """A number of days, such as 90d."""

    name = "days"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number."""
        found = re.fullmatch(r"([0-9]{1,5})d?", str(value), re.ASCII)
        if found is None:
            self.fail(f"{value!r}: say a number of days, such as 90d")
        return int(found[1])


DAYS = _Days()


@click.group()
def device() -> None:
    """List, show, activate, rotate, revoke, move, sync and retire devices."""


@device.command("list")
@facilities_option
@click.option("--state", type=click.Choice([state.value for state in State]), help="Only devices in this state.")
@click.option("--expiring", type=DAYS, metavar="DAYSd", help="Only certificates known to expire within these days.")
@click.option("--offline", is_flag=True, help="Ask no AWS IoT: only the record, the CSRs and the journals.")
@on_aws
@json_option
def list_devices(
    site: Site, facility_ids: tuple[str, ...], state: str | None, expiring: int | None, offline: bool, as_json: bool
) -> None:
    """List devices with their states: as AWS IoT has them where it is asked, else as they are known on this machine."""
    named = [site.project.facility(each) for each in facility_ids]
    counts: Counter[State] = Counter()
    with _listed(site, named, is_offline=offline) as (devices, asked):
        chosen = _chosen(devices, counts, state=state, days=expiring)
        emit_rows(chosen, lambda: _state_lines(chosen, counts, asked=asked), as_json=as_json)
    if not counts.total():
        raise OutcomeError("there are no devices", hint="see `things:` in fleet.yaml")


@contextmanager
def _listed(
    site: Site, named: list[FacilitySpec], *, is_offline: bool
) -> Iterator[tuple[Iterator[DeviceState], str | None]]:
    """List the devices of the named facilities, else of all; with why AWS IoT was not asked, None where it was."""
    project = site.project
    target, why = None, "--offline"
    if not is_offline:
        try:
            target = target_of(project, site.aws)
        except EnvironmentFault as fault:
            is_named = site.folder != local_folder(project.root, project.environment)
            if site.is_account or is_named:
                raise
            why = fault.message
    # Without a local AWS, what is known of the account's devices is the better answer.
    paths = (site.journals if target or site.is_account else journals_here(project, local=None)) or site.journals
    with known_devices(paths) as journals, ExitStack() as stack, Progress("devices") as progress:
        calls = None
        if target is not None:
            calls = calls_of(target)
            stack.callback(calls.pacer.close)
        former = {each for journal in journals for each in journal.facilities()} - {e.id for e in project.facilities}
        devices = list_states(
            project,
            named or [*project.facilities, *map(project.facility_of, sorted(former))],
            journals,
            registry=Registry(calls, suffix=project.environment_suffix) if calls is not None else None,
            requests_of=lambda facility: things_of(
                places_of(csr_path(identities_folder(project), project.environment_suffix, facility.id))
            ),
            on_progress=progress.advance,
        )
        yield devices, None if target is not None else why


def _chosen(
    devices: Iterable[DeviceState], counts: Counter[State], *, state: str | None, days: int | None
) -> Iterator[DeviceState]:
    """Yield the chosen devices, and count all of them by state."""
    until = None if days is None else datetime.now(UTC) + timedelta(days=days)
    for each in devices:
        counts[each.state] += 1
        is_soon = until is None or (each.expires is not None and datetime.fromisoformat(each.expires) < until)
        if state in (None, each.state) and is_soon:
            yield each


def _state_lines(chosen: Iterator[DeviceState], counts: Counter[State], *, asked: str | None) -> Iterator[str]:
    """Lay the devices out in columns, a thousand at a time, and then their counts."""
    shown = 0
    while part := list(islice(chosen, 1_000)):
        heads = [] if shown else [("name", "plant", "type", "state", "expires", "changed", "certificate", "")]
        yield from table([*heads, *map(_cells, part)], "<<<<<<<<")
        shown += len(part)
    total = counts.total()
    states = ", ".join(f"{counts[state]:,} {state}" for state in State if counts[state])
    yield f"{counted(total, 'device')}: {states}" + ("" if shown == total else f"; {shown:,} listed")
    if counts[State.UNKNOWN] and asked is not None:
        yield f"unknown until AWS IoT is asked: fleet device list --aws ({asked})"
    elif counts[State.UNKNOWN]:
        yield "unknown: a certificate needs two calls a device; choose fewer devices, with --facility"
    elif asked is not None:
        yield f"from this machine's journal; AWS IoT was not asked ({asked})"


def _cells(each: DeviceState) -> tuple[str, ...]:
    return (
        *(each.name, each.facility, each.device_type, each.state, (each.expires or "-")[:10]),
        *((each.changed or "-")[:10], each.certificate_id or "-", "" if each.is_planned else "left the record"),
    )


@device.command()
@things_argument
@_on_registry
@json_option
def show(registry: _Registry, things: tuple[str, ...], as_json: bool) -> None:
    """Show devices as they are in AWS IoT and in the journal."""
    views = [show_device(*found) for found in registry.all_found(things)]
    emit(views, [line for view in views for line in (*_lines(view), "")][:-1], as_json=as_json)


@device.command()
@things_argument
@_on_registry
@_reason
def activate(registry: _Registry, things: tuple[str, ...], reason: str) -> None:
    """Activate the certificates of devices."""
    for work, found in registry.all_found(things, check_activation):
        click.echo(f"{found.thing.name}: {counted(activate_device(work, found, reason=reason), 'certificate')} ACTIVE")


@device.command()
@things_argument
@_on_registry
@_reason
def revoke(registry: _Registry, things: tuple[str, ...], reason: str) -> None:
    """Revoke the certificates of devices, which cannot be undone."""
    chosen = registry.all_found(things, check_revocation)
    registry.warn(found for _, found in chosen)
    for work, found in chosen:
        count = revoke_device(work, found, reason=reason)
        none_yet = "" if count else "; it has none yet, and gets none with its key"
        commit = "; commit identities/" if found.own_keys is not None else ""
        click.echo(f"{found.thing.name}: {counted(count, 'certificate')} REVOKED{none_yet}{commit}")


@device.command()
@things_argument
@_on_registry
@_reason
def retire(registry: _Registry, things: tuple[str, ...], reason: str) -> None:
    """Remove devices from AWS IoT. They are disconnected, then detached and deleted."""
    chosen = registry.all_found(things, check_retirement)
    registry.warn(found for _, found in chosen)
    for work, found in chosen:
        with ExitStack() as stack:
            if found.is_planned:  # a run that is going on would bring it back
                stack.enter_context(facility_lock(registry.journal.path, found.facility.id))
            removed = retire_device(work, found, reason=reason)
        commit = "; commit identities/; the thing stays until it leaves fleet.yaml" if found.own_keys else ""
        gone = ", ".join(removed) or "no certificate"
        click.echo(f"{found.thing.name}: retired; seen locked out, then deleted: {gone}{commit}")


@device.command()
@things_argument
@_on_registry
@_reason
@click.option("--csr", type=PATH, metavar="FILE", help="The CSR of a device that makes its own keys.")
@click.option("--finish", is_flag=True, help="Delete the old certificate, once the device has used the new one.")
@click.option("--force", is_flag=True, help="Finish although no reading came with the new certificate.")
def rotate(
    registry: _Registry, things: tuple[str, ...], reason: str, csr: Path | None, finish: bool, force: bool
) -> None:
    """Rotate the keys and certificates of devices. The old ones work until --finish."""
    if csr is not None and (finish or len(things) != 1):
        raise RequestError("--csr is of one device", hint="rotate them one by one")
    if force and not finish:
        raise click.UsageError("--force is of --finish")
    chosen = registry.all_found(things, registry.finishable(force=force) if finish else check_rotation)
    store = None if csr is not None or finish else _store(registry.project)
    registry.warn(found for _, found in chosen)
    for work, found in chosen:
        if finish:
            click.echo(_finished(finish_rotation(work, found, reason=reason), found))
            continue
        requests = csr_path(identities_folder(registry.project), registry.project.environment_suffix, found.facility.id)
        begun = begin_rotation(
            work,
            found,
            keys=DeviceKeys(store=store, requests=requests),
            request=request_of(csr) if csr else None,
            reason=reason,
        )
        click.echo(_begun(begun, found))


def _begun(begun: Rotation, found: Registered) -> str:
    if begun.generation is None:
        return f"{begun.thing}: {begun.new} beside {begun.old}; hand it over, then rotate --finish"
    return (
        f"{begun.thing}: a CSR of generation {begun.generation} beside {begun.old}; {_apply(found)}, hand the new "
        "certificate over, then rotate --finish"
    )


def _finished(done: Rotation, found: Registered) -> str:
    if done.generation is None:
        return f"{done.thing}: now only {done.new}; {done.old} was seen locked out, then deleted"
    return f"{done.thing}: {done.new} stays; {_apply(found)}, which deletes {done.old}"


def _apply(found: Registered) -> str:
    """Return what is left to do where Terraform registers the thing."""
    return f"run fleet plan and fleet generate, commit identities/, apply the stack of {found.facility.id}"


@device.command()
@things_argument
@_on_registry
@_reason
@click.option("--to", "facility_id", required=True, metavar="ID", shell_complete=complete_facility, help="The plant.")
@click.option(
    "--as",
    "name",
    metavar="NAME",
    shell_complete=complete_thing,
    help="Planned thing that the device becomes there (default: the next).",
)
@click.option("--rotate", is_flag=True, help="Rotate its key and certificate too.")
@click.option("--csr", type=PATH, metavar="FILE", help="The CSR of a device that makes its own keys.")
@click.option("--dry-run", is_flag=True, help="Print what would happen; change nothing.")
def move(
    registry: _Registry,
    things: tuple[str, ...],
    reason: str,
    facility_id: str,
    name: str | None,
    rotate: bool,
    csr: Path | None,
    dry_run: bool,
) -> None:
    """Move devices to another plant. They get other names and topics there."""
    if (csr is not None or name is not None) and len(things) != 1:
        raise RequestError("--csr and --as are of one device", hint="move them one by one")
    renewal = Renewal(request=request_of(csr) if csr else None) if rotate or csr else None
    to = registry.project.facility(facility_id)
    request = MoveRequest(things=things, to=to, name=name, renewal=renewal, reason=reason)
    for line in move_all(
        registry.project,
        registry.journal,
        registry.work,
        request,
        store=lambda: _store(registry.project),
        is_dry=dry_run,
    ):
        click.echo(f"{line.former}: {line.text}")


@device.command()
@required_facility
@_on_registry
@click.option("--dry-run", is_flag=True, help="Print what differs; change nothing.")
@_reason_or("the record changed")
@json_option
def sync(registry: _Registry, facility_id: str, dry_run: bool, reason: str, as_json: bool) -> None:
    """Update the registered things of a bulk plant. Exit 1 where some still differ from the record."""
    facility = registry.project.facility(facility_id)
    work = replace(registry.work, groups=groups_of(registry.project, facility))
    with facility_lock(registry.journal.path, facility.id), Progress("updating") as progress:
        done = sync_things(
            registry.project, facility, work, reason=reason, is_dry=dry_run, on_progress=progress.advance
        )
    emit(done, _synced_lines(done, is_dry=dry_run), as_json=as_json)
    if done.failed:
        raise OutcomeError(f"{done.failed:,} things are not what the record says", hint="run it again, or correct them")
    if not done.registered:
        raise OutcomeError(f"nothing of {facility.id} is registered", hint=f"fleet onboard --facility {facility.id}")


@device.command()
@required_facility
@_on_registry
@click.option("--dry-run", is_flag=True, help="Print what would be handed over; change nothing.")
@_reason_or("the registration changed")
@click.option("--yes", is_flag=True, help="On the local AWS, change identities/ although an account may use it too.")
@json_option
def adopt(registry: _Registry, facility_id: str, dry_run: bool, reason: str, yes: bool, as_json: bool) -> None:
    """Hand a plant's devices over to its new registration. They keep keys and certificates."""
    facility = registry.project.facility(facility_id)
    if registry.aws.local is not None and not (dry_run or yes):
        refuse_shared_lock(registry.project, facility)
    if not dry_run:
        registry.warn_of_identities()
    work, state = replace(registry.work, groups=groups_of(registry.project, facility)), registry.state_of(facility)
    with facility_lock(registry.journal.path, facility.id):
        done = adopt_devices(registry.project, facility, work, state, reason=reason, is_dry=dry_run)
    verb = "would be handed over" if dry_run else "handed over"
    left = f", {counted(done.without_certificate, 'thing')} without certificate" if done.without_certificate else ""
    commit = "" if dry_run else "; commit identities/, then synthesise, plan and apply the plant's stack"
    line = f"{done.facility}: {counted(done.devices, 'device')} {verb} to {done.registration}{left}{commit}"
    emit(done, [line], as_json=as_json)


def _synced_lines(done: Synced, *, is_dry: bool) -> list[str]:
    verb = "would be updated" if is_dry else "updated"
    lines = [
        f"{done.facility}: {done.differing if is_dry else done.updated:,} {verb}, "
        f"{done.registered - done.differing:,} are what the record says, {done.failed:,} failed"
    ]
    lines += done.differences
    if done.differing > len(done.differences):
        lines.append(f"and {done.differing - len(done.differences):,} more")
    lines += [f"failed: {failure}" for failure in done.failures]
    if done.unregistered:
        lines.append(
            f"{done.unregistered:,} planned things are not registered: fleet onboard --facility {done.facility}"
        )
    if done.left:
        named = ", ".join(done.left_things) + (", …" if done.left > len(done.left_things) else "")
        lines.append(f"{done.left:,} registered things left the record: {named}")
        lines.append("take them out of AWS IoT: fleet device retire THING… --reason TEXT")
    return lines


def _store(project: Project) -> KeyStore | None:
    """Open the key store where there is one: plants whose devices make their keys themselves have none."""
    return open_store(project) if (keys_folder(project) / HEADER).exists() else None


@click.command()
@facility_option
@click.option("--expiring", type=DAYS, default="90d", show_default=True, metavar="DAYSd", help="Which to list.")
@_on_registry
@json_option
def certificates(registry: _Registry, facility: str | None, expiring: int, as_json: bool) -> None:
    """List certificate expiry: of plants in bulk from the journal, of Terraform's from AWS IoT."""
    with Progress("certificates") as progress:
        found = expiry(
            registry.project,
            registry.work,
            now=time.time(),
            days=expiring,
            facility=facility,
            on_progress=progress.advance,
        )
    lines = [
        f"{counted(found.certificates, 'certificate')}; {len(found.expiring):,} expire within {expiring} days",
        *table(
            [(each.not_after[:10], each.thing, each.status, each.certificate_id) for each in found.expiring], "<<<<"
        ),
        *(f"{month}: {count:,} expire" for month, count in found.months.items()),
        *map(_plant_line, found.plants),
    ]
    emit(found, lines, as_json=as_json)
    if not found.certificates:  # another journal, or plants without a device
        raise OutcomeError(
            f"no certificate{f' of {facility}' if facility else ''} is known",
            hint="onboard the devices, or apply the plant's stack, first",
        )


def _plant_line(plant: PlantCertificates) -> str:
    count = "unknown (nothing was onboarded from here)" if plant.certificates is None else f"{plant.certificates:,}"
    return f"{plant.facility}: {counted(plant.things, 'thing')}; certificates by {plant.source}: {count}"


def _lines(view: DeviceView) -> list[str]:
    lines = [f"{view.name}: {view.device_type} at {view.facility}, serial {view.serial}"]
    lines += [
        f"certificate {each.id}: {each.status}, until {each.not_after or 'unknown'}" for each in view.certificates
    ]
    lines += [f"came from {former}" for former in view.came_from]
    lines += [view.onboarding] if view.onboarding else []
    if not view.certificates:
        lines.append(f"no certificate in AWS IoT{'' if view.is_registered else ', nor the thing'}")
    lines += [
        f"key of generation {each.generation}: {each.status}, "
        + (f"certificate {each.certificate_id}" if each.certificate_id else "no certificate attached")
        for each in view.keys
    ]
    for event in view.history:
        who = "" if event.thing == view.name else f"{event.thing}: "
        lines.append(f"{event.at}  {who}{event.what}  {event.certificate_id or ''}  {event.reason}".rstrip())
    return lines
