"""`fleet ca`: makes the project's own authority, signs CSRs with it, revokes, publishes the CRL, shows."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import click

from fleet_iot.generator.cli.completion import complete_facility
from fleet_iot.generator.diagnostics import OutcomeError, visible
from fleet_iot.generator.manifest.project import find_project
from fleet_iot.operations.lists.formats import FORMATS, Source, open_source
from fleet_iot.operations.pki import ca as lists
from fleet_iot.operations.pki.ca import (
    CURVES,
    MOST_YEARS,
    SHORTEST,
    Authority,
    Order,
    Places,
    Policy,
    check_new,
    check_store,
    end_of,
    make_authority,
    open_authority,
    read_certificate,
    show_authority,
    sign_requests,
)
from fleet_iot.operations.pki.csr import csr_path
from fleet_iot.operations.pki.keystore import (
    KeyStore,
    authority_folder,
    identities_folder,
    keys_folder,
    ledgers_of,
    open_store,
)
from fleet_iot.operations.pki.ledger import Ledger, opened_ledger
from fleet_iot.operations.pki.spent import SpentKeys, journals_of
from fleet_iot.operations.progress import Progress
from fleet_iot.operations.project import Project, load_project
from fleet_iot.operations.registry.preparation import own_requests

_PATH = click.Path(path_type=Path)
_TOLD = 20
_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Site:
    """The project and its authority's places; the ledger is this command's alone."""

    project: Project
    places: Places
    store: KeyStore
    ledger: Ledger
    now: datetime.datetime

    def authority(self) -> Authority:
        self.ledger.check_clock(self.now.timestamp())
        return open_authority(self.store, self.places, now=self.now)


@contextmanager
def _opened() -> Iterator[_Site]:
    """Where there is an authority. A command that is refused here founds neither key store nor ledger."""
    project = load_project(find_project(Path.cwd()))
    places, now = _places(project), _now()
    read_certificate(places)
    store = open_store(project)
    open_authority(store, places, now=now)
    with _opened_site(project, store, now) as site:
        yield site


@contextmanager
def _opened_site(project: Project, store: KeyStore, now: datetime.datetime) -> Iterator[_Site]:
    with opened_ledger(keys_folder(project), is_writing=True) as ledger:
        yield _Site(project=project, places=_places(project), store=store, ledger=ledger, now=now)


def _places(project: Project) -> Places:
    return Places(folder=authority_folder(project))


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


@click.group()
def ca() -> None:
    """Run a certificate authority of your own for devices."""


@ca.command()
@click.option("--name", metavar="TEXT", help="Its common name (default: APPLICATION SUFFIX devices).")
@click.option("--curve", type=click.Choice(tuple(CURVES)), default="P-256", show_default=True, help="Of its key.")
@click.option("--years", type=click.IntRange(1, MOST_YEARS), default=20, show_default=True, help="How long it holds.")
@click.option("--days", type=int, default=1095, show_default=True, help="How long devices' certificates hold.")
@click.option("--max-days", type=int, default=1825, show_default=True, help="How long they may be asked to hold.")
def init(name: str | None, curve: str, years: int, days: int, max_days: int) -> None:
    """Make the authority: its key sealed outside the repository, its certificate inside."""
    project = load_project(find_project(Path.cwd()))
    called = name or f"{project.fleet.application} {project.environment_suffix} devices"
    policy = Policy(days=days, max_days=max_days)
    check_new(_places(project), name=called, years=years, policy=policy)
    store = open_store(project, founds=True, shortest=SHORTEST)
    check_store(store)
    with _opened_site(project, store, _now()) as site:
        authority = make_authority(
            site.store, site.places, name=called, curve=curve, years=years, policy=policy, now=site.now
        )
        lists.publish(authority, site.ledger, site.places, now=site.now)
        until = authority.certificate.not_valid_after_utc
        click.echo(f"{authority.certificate.subject.rfc4514_string()}: {curve}, until {until:%Y-%m-%d}")
        click.echo(f"key: {keys_folder(site.project)} (sealed; back it up)   public: {site.places.folder} (commit it)")


@ca.command()
@click.option("--facility", "facility_id", required=True, metavar="ID", shell_complete=complete_facility)
@click.option("--csr", "csrs", type=_PATH, metavar="FILE|FOLDER", help="CSRs (default: the project's own).")
@click.option("--format", "format_name", type=click.Choice(("auto", *FORMATS)), default="auto", show_default=True)
@click.option("--days", type=int, metavar="N", help="How long the certificates hold (default: the policy's).")
@click.option("--again", is_flag=True, help="Sign those too that have a certificate which still holds.")
@click.option("--replace", "replaces", is_flag=True, help="Sign another key of a thing; revoke the old certificate.")
@click.option("--reuse-retired", is_flag=True, help="Sign keys that were retired (never those revoked).")
@click.option("--out", type=_PATH, metavar="FILE", help="The list of certificates.")
@_json
def sign(
    facility_id: str,
    csrs: Path | None,
    format_name: str,
    days: int | None,
    again: bool,
    replaces: bool,
    reuse_retired: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Sign CSRs of planned things; exit 1 where some were not, or where there are none."""
    load_project(find_project(Path.cwd())).facility(facility_id)  # before a passphrase is asked for
    with _opened() as site, Progress("certificates") as progress:
        authority = site.authority()
        not_after = end_of(authority, days, now=site.now)
        source = _source(site.project, facility_id, csrs, format_name)
        order = replace(
            _order(site, facility_id, source, not_after),
            again=again,
            replaces=replaces,
            reuses_retired=reuse_retired,
            elsewhere=SpentKeys([*journals_of(site.project), *ledgers_of(site.project)]),
        )
        target = out or site.places.signed(order.facility)
        done = sign_requests(authority, site.ledger, order, target=target, on_progress=progress.advance)
        if done.superseded:
            _tell(lists.publish(authority, site.ledger, site.places, now=site.now), site.places, is_err=as_json)
    faults = [f"row {each.number} ({each.place}): {each.reason}; {each.remedy}" for each in done.faults]
    lists_ = {"list": str(target), "issuer": str(site.places.certificate)}
    if as_json:
        told = {"facility": order.facility, "signed": done.signed, "already": done.already, "not_signed": len(faults)}
        told |= {"superseded": done.superseded}
        click.echo(json.dumps(told | {"not_after": not_after.isoformat()} | lists_ | {"faults": faults}))
    else:
        click.echo(
            f"{order.facility}: {done.signed:,} signed until {not_after:%Y-%m-%d}, {done.already:,} have a "
            f"certificate that holds, {len(faults):,} not signed"
        )
        click.echo("fleet onboard --facility {} --from {list} --issuer {issuer}".format(order.facility, **lists_))
        _tell_faults(faults)
    if faults:
        click.get_current_context().exit(1)
    if not done.signed + done.already:
        raise OutcomeError("there was no CSR to sign", hint=f"fleet keys create --facility {order.facility}")


def _order(site: _Site, facility_id: str, source: Source, not_after: datetime.datetime) -> Order:
    facility = site.project.facility(facility_id)
    return Order(
        facility=facility.id,
        suffix=site.project.environment_suffix,
        source=source,
        planned=frozenset(thing.name for thing in site.project.things(facility)),
        not_after=not_after,
        now=site.now,
    )


def _tell_faults(faults: list[str]) -> None:
    for fault in faults[:_TOLD]:
        click.echo(visible(fault), err=True)
    if len(faults) > _TOLD:
        click.echo(f"and {len(faults) - _TOLD:,} more: see --json", err=True)


def _source(project: Project, facility: str, csrs: Path | None, format_name: str) -> Source:
    project.facility(facility)
    if csrs is None:
        return own_requests(csr_path(identities_folder(project), project.environment_suffix, facility), facility)
    return open_source(csrs, format_name=format_name)


@ca.command()
@click.argument("what", nargs=-1, required=True, metavar="THING|SERIAL...")
@click.option("--reason", type=click.Choice(tuple(lists.REASONS)), required=True, help="As in the CRL.")
@click.option("--note", default="", metavar="TEXT", help="More of the reason, for the ledger.")
def revoke(what: tuple[str, ...], reason: str, note: str) -> None:
    """Revoke certificates that the authority signed, and publish its CRL."""
    with _opened() as site:
        suffix = site.project.environment_suffix
        found = [lists.find_certificates(site.ledger, each, suffix=suffix) for each in what]
        authority = site.authority()
        for entries in found:
            fresh = lists.revoke(site.ledger, entries, reason=reason, note=note, now=site.now)
            click.echo(f"{entries[0].thing}: {len(fresh)} certificates revoked")
        facilities = {entry.facility for entries in found for entry in entries}
        for path, count in lists.withdraw(site.ledger, site.places, facilities).items():
            click.echo(f"taken out of {path}: {count} (commit it)")
        _tell(lists.publish(authority, site.ledger, site.places, now=site.now), site.places)
    click.echo("AWS IoT reads no CRL: cut devices off there with `fleet device revoke THING --reason TEXT`", err=True)


@ca.command()
@click.option(
    "--days", type=click.IntRange(1, 3650), default=lists.LIST_DAYS, show_default=True, help="Until the next."
)
def crl(days: int) -> None:
    """Publish the CRL anew, before it is out of date."""
    with _opened() as site:
        _tell(lists.publish(site.authority(), site.ledger, site.places, now=site.now, days=days), site.places)


def _tell(done: lists.Published, places: Places, *, is_err: bool = False) -> None:
    told = f"CRL {done.number}: {done.revoked:,} certificates, until {done.next_update:%Y-%m-%d}: {places.crl}"
    click.echo(told, err=is_err)


@ca.command()
@_json
def show(as_json: bool) -> None:
    """Show the authority, what it signed, and its CRL; needs no passphrase."""
    project = load_project(find_project(Path.cwd()))
    places = _places(project)
    read_certificate(places)
    with opened_ledger(keys_folder(project), is_writing=False) as ledger:
        told = show_authority(ledger, places, now=_now())
    click.echo(json.dumps(told) if as_json else "\n".join(f"{name.replace('_', ' ')}: {told[name]}" for name in told))
