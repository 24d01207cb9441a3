"""`fleet bundle`."""

from __future__ import annotations

import datetime
import getpass
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click

from fleet_iot.generator.cli.completion import complete_thing
from fleet_iot.generator.diagnostics import EnvironmentFault, OutcomeError, RequestError
from fleet_iot.lib.specs import FacilitySpec
from fleet_iot.operations.aws import MQTT_PORT, Aws
from fleet_iot.operations.cli.options import PATH, Site, emit, emit_errors, json_option, on_aws, required_facility
from fleet_iot.operations.pki.keystore import open_store
from fleet_iot.operations.progress import Progress
from fleet_iot.operations.registry.bundle import (
    BundleResult,
    Certificates,
    Endpoint,
    HandOver,
    KeySealer,
    KeySource,
    NothingToBundleError,
    Plant,
    amazon_roots,
    make_bundle,
    write_receipt,
)
from fleet_iot.operations.registry.preparation import refusals_of
from fleet_iot.operations.registry.runner import opened_journal, work_of
from fleet_iot.operations.registry.target import target_of

INSTALL_FOLDER = "/etc/aws-iot-device-client"


@click.command()
@required_facility
@click.option(
    "--thing", "said", multiple=True, metavar="NAME", shell_complete=complete_thing, help="Only this; may be repeated."
)
@click.option(
    "--out", type=PATH, metavar="FILE", help="The archive (default: build/bundles/ID-SUFFIX.tar.gz, or THING.tar.gz)."
)
@click.option("--with-keys", is_flag=True, help="Include keys made here, encrypted with a passphrase of the bundle.")
@click.option("--endpoint", metavar="HOST", help="Where devices connect (default: the account's).")
@click.option("--install-folder", default=INSTALL_FOLDER, show_default=True, metavar="PATH", help="On the devices.")
@click.option("--by", metavar="TEXT", help="Who hands it over, for the receipt (default: the user).")
@click.option("--to", default="", metavar="TEXT", help="Who gets it, for the receipt.")
@on_aws
@json_option
def bundle(
    site: Site,
    facility_id: str,
    said: tuple[str, ...],
    out: Path | None,
    with_keys: bool,
    endpoint: str | None,
    install_folder: str,
    by: str | None,
    to: str,
    as_json: bool,
) -> None:
    """Pack certificates, roots, endpoint and topics of a plant's devices; exit 1 where some are missing."""
    project = site.project
    facility = project.facility(facility_id)
    things = sorted({site.thing(each, facility=facility).name for each in said})
    if out is None and len(things) > 1:
        raise click.UsageError("several --thing need a name for the archive: --out FILE")
    name = things[0] if things else f"{facility.id}-{project.environment_suffix}"
    path = out or project.build / "bundles" / f"{name}.tar.gz"
    if not install_folder.startswith("/"):
        raise RequestError(f"--install-folder {install_folder!r} is no absolute path", hint="such as /etc/device")
    keys = KeySource(store=open_store(project), sealer=KeySealer(_passphrase())) if with_keys else None
    hand_over = HandOver(by=by or getpass.getuser(), to=to, at=datetime.datetime.now(datetime.UTC))
    with _certificates(site, facility) as certificates:
        found = _endpoint(site.aws, host=endpoint, install_folder=install_folder)
        plant = Plant(
            project=project,
            facility=facility,
            account=site.aws.account,
            endpoint=found,
            keys=keys,
            things=frozenset(things),
        )
        done, receipts = _pack(plant, certificates, path, hand_over)
    _print(facility.id, done, receipts, as_json=as_json)
    if done.missing:
        click.get_current_context().exit(1)
    if not done.devices:
        raise OutcomeError(f"{facility.id} has no devices to bundle", hint="see `things:` in fleet.yaml")


def _pack(
    plant: Plant, certificates: Certificates, target: Path, hand_over: HandOver
) -> tuple[BundleResult, tuple[Path, ...]]:
    """Make the bundle and its receipts; there are none where there is nothing to bundle."""
    try:
        with Progress("devices") as progress:
            done = make_bundle(plant, certificates, target, on_progress=progress.advance)
    except NothingToBundleError as nothing:
        return nothing.outcome, ()
    return done, write_receipt(plant, done, hand_over)


@contextmanager
def _certificates(site: Site, facility: FacilitySpec) -> Iterator[Certificates]:
    """Open the certificates of the facility's things in the chosen AWS."""
    project, target = site.project, target_of(site.project, site.aws)
    with opened_journal(project, target, local=site.folder) as journal:
        work = work_of(project, target, journal, facility=facility, is_staged=False, policy_on="group")
        cache = target.journal.with_suffix(".certificates.sqlite")
        refusals = refusals_of(project, journal, local=site.folder)
        certificates = Certificates(journal, work.calls, refusals=refusals, cache=cache)
        try:
            yield certificates
        finally:
            certificates.close()
            work.calls.pacer.close()


def _endpoint(aws: Aws, *, host: str | None, install_folder: str) -> Endpoint:
    if host and not aws.local:
        return Endpoint(host=host, port=MQTT_PORT, roots=amazon_roots(), install_folder=install_folder)
    broker = aws.broker()
    roots = broker.ca_file.read_bytes() if broker.ca_file else amazon_roots()
    return Endpoint(host=host or broker.host, port=broker.port, roots=roots, install_folder=install_folder)


def _passphrase() -> str:
    """Read `FLEET_BUNDLE_PASSPHRASE`, or ask on a terminal; it is not the key store's passphrase."""
    passphrase = os.environ.get("FLEET_BUNDLE_PASSPHRASE")
    if passphrase:
        return passphrase
    if not sys.stdin.isatty():
        raise EnvironmentFault(
            "the bundle's keys need a passphrase and there is no terminal to ask on",
            hint="set FLEET_BUNDLE_PASSPHRASE",
        )
    asked: str = click.prompt("Passphrase for the bundle's keys", hide_input=True, confirmation_prompt=True, err=True)
    return asked


def _print(facility: str, done: BundleResult, receipts: tuple[Path, ...], *, as_json: bool) -> None:
    archive, paths = str(done.archive) if done.sha256 else None, [str(path) for path in receipts]
    result = {
        "facility": facility,
        "archive": archive,
        "sha256": done.sha256,
        "bytes": done.size,
        "devices": done.devices,
        "keys": done.keys,
        "missing": [asdict(each) for each in done.missing],
        "receipts": paths,
    }
    lines = [f"{facility}: {done.devices:,} devices, {done.keys:,} encrypted keys, {len(done.missing):,} missing"]
    if archive:
        lines += [archive, f"sha256 {done.sha256}", f"receipt: {', '.join(paths)}"]
    emit(result, lines, as_json=as_json)
    if not as_json:
        emit_errors([f"{each.thing}: {each.reason}; {each.remedy}" for each in done.missing])
