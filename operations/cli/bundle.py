"""`fleet bundle`: packs what the devices of a plant need to connect into one archive, with a receipt."""

from __future__ import annotations

import datetime
import getpass
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click

from fleet_iot.generator.cli.completion import complete_facility
from fleet_iot.generator.diagnostics import EnvironmentFault, OutcomeError, RequestError, visible
from fleet_iot.generator.manifest.project import find_project
from fleet_iot.operations.local.aws import load
from fleet_iot.operations.pki.keystore import open_store
from fleet_iot.operations.progress import Progress
from fleet_iot.operations.project import Project, load_project
from fleet_iot.operations.registry.bundle import (
    Certificates,
    HandOver,
    Keys,
    NothingToBundleError,
    Outcome,
    Plant,
    amazon_roots,
    make_bundle,
    write_receipt,
)
from fleet_iot.operations.registry.device_files import Endpoint, KeySealer
from fleet_iot.operations.registry.preparation import refusals_of
from fleet_iot.operations.registry.runner import opened_journal, work_of
from fleet_iot.operations.registry.steps import Work
from fleet_iot.operations.registry.target import Target, aws_target, local_target

MQTT_PORT = 8883
"""https://docs.aws.amazon.com/iot/latest/developerguide/protocols.html"""
INSTALL_FOLDER = "/etc/aws-iot-device-client"
_PATH = click.Path(path_type=Path)
_TOLD = 20


@click.command()
@click.option("--facility", "facility_id", required=True, metavar="ID", shell_complete=complete_facility)
@click.option("--out", type=_PATH, metavar="FILE", help="The archive (default: build/bundles/ID-SUFFIX.tar.gz).")
@click.option("--with-keys", is_flag=True, help="With the keys made here, encrypted with a passphrase of the bundle.")
@click.option("--endpoint", metavar="HOST", help="Where devices connect (default: the account's).")
@click.option("--install-folder", default=INSTALL_FOLDER, show_default=True, metavar="PATH", help="On the devices.")
@click.option("--by", metavar="TEXT", help="Who hands it over, for the receipt (default: the user).")
@click.option("--to", default="", metavar="TEXT", help="Who gets it, for the receipt.")
@click.option("--dir", "folder", type=_PATH, default=Path("build/local"), show_default=True, help="The local AWS.")
@click.option("--aws", is_flag=True, help="The AWS account of the credentials, not the local AWS.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def bundle(
    facility_id: str,
    out: Path | None,
    with_keys: bool,
    endpoint: str | None,
    install_folder: str,
    by: str | None,
    to: str,
    folder: Path,
    aws: bool,
    as_json: bool,
) -> None:
    """Pack certificates, roots, endpoint and topics of a plant's devices; exit 1 where some are missing."""
    project = load_project(find_project(Path.cwd()))
    facility = project.facility(facility_id)
    target = out or project.root / "build" / "bundles" / f"{facility.id}-{project.environment_suffix}.tar.gz"
    if not install_folder.startswith("/"):
        raise RequestError(f"--install-folder {install_folder!r} is no absolute path", hint="such as /etc/device")
    keys = Keys(store=open_store(project), sealer=KeySealer(_passphrase())) if with_keys else None
    hand_over = HandOver(by=by or getpass.getuser(), to=to, at=datetime.datetime.now(datetime.UTC))
    with _opened(project, facility_id, folder, aws=aws) as (work, certificates, account):
        found = _endpoint(work, None if aws else folder, host=endpoint, install_folder=install_folder)
        plant = Plant(project=project, facility=facility, account=account, endpoint=found, keys=keys)
        done, receipts = _pack(plant, certificates, target, hand_over)
    _tell(facility.id, done, receipts, as_json=as_json)
    if done.missing:
        click.get_current_context().exit(1)
    if not done.devices:
        raise OutcomeError(f"{facility.id} has no devices to bundle", hint="see `things:` in fleet.yaml")


def _pack(
    plant: Plant, certificates: Certificates, target: Path, hand_over: HandOver
) -> tuple[Outcome, tuple[Path, ...]]:
    """The bundle and its receipts, of which there are none where there is nothing to bundle."""
    try:
        with Progress("devices") as progress:
            done = make_bundle(plant, certificates, target, on_progress=progress.advance)
    except NothingToBundleError as nothing:
        return nothing.outcome, ()
    return done, write_receipt(plant, done, hand_over)


@contextmanager
def _opened(project: Project, facility_id: str, folder: Path, *, aws: bool) -> Iterator[tuple[Work, Certificates, str]]:
    """The AWS that was asked for, its things' certificates, and its account."""
    target: Target = aws_target(project) if aws else local_target(project, folder)
    facility = project.facility(facility_id)
    with opened_journal(project, target, local=folder) as journal:
        work = work_of(project, target, journal, facility=facility, is_staged=False, policy_on="group")
        cache = target.journal.with_suffix(".certificates.sqlite")
        refusals = refusals_of(project, journal, local=folder)
        certificates = Certificates(journal, work.calls, refusals=refusals, cache=cache)
        try:
            yield work, certificates, target.account.partition("/")[0]
        finally:
            certificates.close()
            work.calls.pacer.close()


def _endpoint(work: Work, local_folder: Path | None, *, host: str | None, install_folder: str) -> Endpoint:
    if local_folder is not None:
        local = load(local_folder)
        roots, port = local.mqtt_authority.read_bytes(), local.mqtt_port
        return Endpoint(host=host or local.mqtt_host, port=port, roots=roots, install_folder=install_folder)
    found = host or work.calls.call("DescribeEndpoint", endpointType="iot:Data-ATS")["endpointAddress"]
    return Endpoint(host=found, port=MQTT_PORT, roots=amazon_roots(), install_folder=install_folder)


def _passphrase() -> str:
    """`FLEET_BUNDLE_PASSPHRASE`, or asked for on a terminal; another one than the key store's."""
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


def _tell(facility: str, done: Outcome, receipts: tuple[Path, ...], *, as_json: bool) -> None:
    archive = str(done.archive) if done.sha256 else None
    if as_json:
        told = {"facility": facility, "archive": archive, "sha256": done.sha256, "bytes": done.size}
        counts = {"devices": done.devices, "keys": done.keys, "missing": [asdict(each) for each in done.missing]}
        click.echo(json.dumps(told | counts | {"receipts": [str(path) for path in receipts]}))
        return
    click.echo(f"{facility}: {done.devices:,} devices, {done.keys:,} encrypted keys, {len(done.missing):,} missing")
    if archive:
        click.echo(f"{archive}\nsha256 {done.sha256}\nreceipt: {', '.join(str(path) for path in receipts)}")
    for each in done.missing[:_TOLD]:
        click.echo(visible(f"{each.thing}: {each.reason}; {each.remedy}"), err=True)
    if len(done.missing) > _TOLD:
        click.echo(f"and {len(done.missing) - _TOLD:,} more: see --json", err=True)
