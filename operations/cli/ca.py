"""`fleet ca`."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from fleet_iot.generator.cli.completion import complete_thing
from fleet_iot.generator.diagnostics import OutcomeError, RequestError
from fleet_iot.generator.text import counted
from fleet_iot.operations.aws import local_folder
from fleet_iot.operations.cli.options import PATH, emit, emit_errors, json_option, on_project, required_facility
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
    SigningResult,
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
from fleet_iot.operations.pki.ledger import Entry, Ledger, opened_ledger
from fleet_iot.operations.pki.spent import SpentKeys, journals_here, journals_of
from fleet_iot.operations.progress import Progress
from fleet_iot.operations.project import Project
from fleet_iot.operations.registry.names import resolve
from fleet_iot.operations.registry.preparation import own_requests


@dataclass(frozen=True, slots=True, kw_only=True)
class _Site:
    """The project, the places of its authority, and the ledger, locked for this command."""

    project: Project
    places: Places
    store: KeyStore
    ledger: Ledger
    now: datetime.datetime

    def authority(self) -> Authority:
        self.ledger.check_clock(self.now.timestamp())
        return open_authority(self.store, self.places, now=self.now)


@contextmanager
def _opened(project: Project) -> Iterator[_Site]:
    """Open the site of an authority that there is. A command that is refused here creates no key store or ledger."""
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
@click.option("--years", type=click.IntRange(1, MOST_YEARS), default=20, show_default=True, help="Its validity.")
@click.option("--days", type=int, default=1095, show_default=True, help="Validity of devices' certificates.")
@click.option("--max-days", type=int, default=1825, show_default=True, help="The longest validity to sign.")
@on_project
def init(project: Project, name: str | None, curve: str, years: int, days: int, max_days: int) -> None:
    """Make the authority. Its key is sealed outside the repository, its certificate is inside."""
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
@required_facility
@click.option("--csr", "csrs", type=PATH, metavar="FILE|FOLDER", help="CSRs (default: the project's own).")
@click.option("--format", "format_name", type=click.Choice(("auto", *FORMATS)), default="auto", show_default=True)
@click.option("--days", type=int, metavar="N", help="Validity of the certificates (default: the policy's).")
@click.option("--again", is_flag=True, help="Sign also for things that have a valid certificate.")
@click.option("--replace", "replaces", is_flag=True, help="Sign another key of a thing; revoke the old certificate.")
@click.option("--reuse-retired", is_flag=True, help="Sign keys that were retired (never those revoked).")
@click.option("--out", type=PATH, metavar="FILE", help="The list of certificates.")
@on_project
@json_option
def sign(
    project: Project,
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
    """Sign CSRs of planned things. Exit 1 where some were not signed, or where there are none."""
    facility = project.facility(facility_id)  # before a passphrase is asked for
    with _opened(project) as site, Progress("certificates") as progress:
        authority = site.authority()
        order = Order(
            facility=facility.id,
            suffix=project.environment_suffix,
            source=_source(project, facility.id, csrs, format_name),
            planned=frozenset(thing.name for thing in project.things(facility)),
            not_after=end_of(authority, days, now=site.now),
            now=site.now,
            again=again,
            replaces=replaces,
            reuses_retired=reuse_retired,
            elsewhere=SpentKeys([*journals_of(project), *ledgers_of(project)]),
        )
        target = out or site.places.signed(facility.id)
        done = sign_requests(authority, site.ledger, order, target=target, on_progress=progress.advance)
        if done.superseded:
            _print_crl(lists.publish(authority, site.ledger, site.places, now=site.now), site.places, is_err=as_json)
    _print_signed(order, done, target=target, issuer=site.places.certificate, as_json=as_json)
    if done.faults:
        click.get_current_context().exit(1)
    if not done.signed + done.already:
        raise OutcomeError("there was no CSR to sign", hint=f"fleet keys create --facility {facility.id}")


def _source(project: Project, facility: str, csrs: Path | None, format_name: str) -> Source:
    if csrs is None:
        return own_requests(csr_path(identities_folder(project), project.environment_suffix, facility), facility)
    return open_source(csrs, format_name=format_name)


def _print_signed(order: Order, done: SigningResult, *, target: Path, issuer: Path, as_json: bool) -> None:
    faults = [f"row {each.number} ({each.place}): {each.reason}; {each.remedy}" for each in done.faults]
    result = {
        "facility": order.facility,
        "signed": done.signed,
        "already": done.already,
        "not_signed": len(faults),
        "superseded": done.superseded,
        "not_after": order.not_after.isoformat(),
        "list": str(target),
        "issuer": str(issuer),
        "faults": faults,
    }
    lines = [
        f"{order.facility}: {done.signed:,} signed until {order.not_after:%Y-%m-%d}, {done.already:,} have a "
        f"certificate that is valid, {len(faults):,} not signed",
        f"fleet onboard --facility {order.facility} --from {target} --issuer {issuer}",
    ]
    emit(result, lines, as_json=as_json)
    if not as_json:
        emit_errors(faults)


@ca.command()
@click.argument("what", nargs=-1, required=True, metavar="THING|SERIAL...", shell_complete=complete_thing)
@click.option("--reason", type=click.Choice(tuple(lists.REASONS)), required=True, help="As in the CRL.")
@click.option("--note", default="", metavar="TEXT", help="More about the reason, for the ledger.")
@on_project
def revoke(project: Project, what: tuple[str, ...], reason: str, note: str) -> None:
    """Revoke certificates of the authority. The CRL is published too."""
    with _opened(project) as site:
        found = [_certificates(site, each) for each in what]
        authority = site.authority()
        for entries in found:
            fresh = lists.revoke(site.ledger, entries, reason=reason, note=note, now=site.now)
            click.echo(f"{entries[0].thing}: {counted(len(fresh), 'certificate')} revoked")
        facilities = {entry.facility for entries in found for entry in entries}
        for path, count in lists.withdraw(site.ledger, site.places, facilities).items():
            click.echo(f"taken out of {path}: {count} (commit it)")
        _print_crl(lists.publish(authority, site.ledger, site.places, now=site.now), site.places)
    click.echo("AWS IoT reads no CRL: cut devices off there with `fleet device revoke THING --reason TEXT`", err=True)


def _certificates(site: _Site, asked: str) -> list[Entry]:
    """Return the certificates of a serial number or full name, else of the thing that is meant."""
    project, suffix = site.project, site.project.environment_suffix
    try:
        return lists.find_certificates(site.ledger, asked, suffix=suffix)
    except RequestError:
        own_local = local_folder(project.root, project.environment)
        journals = [path for local in (None, own_local) for path in journals_here(project, local=local)]
        thing = resolve(project, asked, journals=journals)
        return lists.find_certificates(site.ledger, thing.name, suffix=suffix)


@ca.command()
@click.option(
    "--days", type=click.IntRange(1, 3650), default=lists.LIST_DAYS, show_default=True, help="Until the next."
)
@on_project
def crl(project: Project, days: int) -> None:
    """Publish the next CRL, before the present one expires."""
    with _opened(project) as site:
        _print_crl(lists.publish(site.authority(), site.ledger, site.places, now=site.now, days=days), site.places)


def _print_crl(done: lists.Published, places: Places, *, is_err: bool = False) -> None:
    text = f"CRL {done.number}: {counted(done.revoked, 'certificate')}, until {done.next_update:%Y-%m-%d}: {places.crl}"
    click.echo(text, err=is_err)


@ca.command()
@on_project
@json_option
def show(project: Project, as_json: bool) -> None:
    """Show the authority, what it signed, and its CRL. Needs no passphrase."""
    places = _places(project)
    read_certificate(places)
    with opened_ledger(keys_folder(project), is_writing=False) as ledger:
        shown = show_authority(ledger, places, now=_now())
    emit(shown, [f"{name.replace('_', ' ')}: {value}" for name, value in shown.items()], as_json=as_json)
