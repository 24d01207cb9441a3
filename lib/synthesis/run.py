"""Synthesise the stacks from settings and the approved record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..bindings import App
from ..faults import PrerequisiteError
from ..record.identities import (
    Requests,
    csrs_file,
    differences,
    lock_file,
    lock_new,
    read_lock,
    read_requests,
    refuse_names_of_others,
    refuse_shared_keys,
    unplanned,
)
from ..record.read import read_things
from ..shared import packaging
from ..shared.context import RETENTIONS, StackContext
from ..shared.limits import check_names
from ..specs import FacilitySpec, FleetSpec, suffixed
from ..stacks import BaseStack, EndpointStack, FacilityStack
from ..tap_stack import TapStack
from .output import (
    ENDPOINT_COUNTS,
    add_blocks,
    add_lock,
    check_counts,
    check_expressions,
    check_owner,
    facility_counts,
    platform_counts,
    read_resources,
    stack_file,
    staging,
)
from .settings import Settings

CONTEXT = {"excludeStackIdFromLogicalIds": "true", "allowSepCharsInLogicalIds": "true"}
"""CDKTF's flags, by which resource addresses read like the resources' names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthesis:
    """The result of a synthesis.

    Args:
        stacks: Names of the stacks that can be applied and destroyed at any time, platform first.
        endpoint: Name of the endpoint's stack, which AWS lets be destroyed only after a week.
        notes: Lines for the person who runs the synthesis.
    """

    stacks: tuple[str, ...]
    endpoint: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Stack:
    """A stack, the resource counts that the manifest decides, and the manifest key to blame for its names."""

    stack: BaseStack
    planned: Mapping[str, int]
    manifest_key: tuple[str, ...] = ("environment_suffix",)

    @property
    def name(self) -> str:
        return str(self.stack.node.id)

    def complete(self, outdir: Path, *, provider_lock: Path | None) -> None:
        """Add the blocks that are no constructs to the synthesised file, check the whole, and add the lock file."""
        path = stack_file(outdir, self.name)
        if self.stack.blocks:
            add_blocks(path, self.stack.blocks)
        check_expressions(path)
        resources = read_resources(path)
        check_counts(self.name, resources, planned=self.planned, declared=self.stack.declared())
        check_names(self.name, resources, key=self.manifest_key)
        if provider_lock:
            add_lock(path, provider_lock)


def synthesise(
    settings: Settings, *, fleet: FleetSpec, facilities: Mapping[str, FacilitySpec], folder: Path
) -> Synthesis:
    """Synthesise the platform and the chosen facilities into `settings.outdir`.

    Args:
        folder: The record: the parent of the facilities' folders.
    """
    suffix = settings.environment_suffix
    requests = {
        id_: _checked_requests(settings, id_, facilities=facilities, folder=folder) for id_ in settings.facilities
    }
    refuse_shared_keys(requests.values())
    code = packaging.build_zip(
        source=packaging.find_source(),
        fleet=fleet,
        architecture=settings.lambda_architecture,
        build=settings.build / "lambda",
    )
    compactor_code = packaging.build_compactor_zip(
        fleet=fleet, architecture=settings.lambda_architecture, build=settings.build / "lambda"
    )
    own_tags = {"application": fleet.application, "environment": suffix}
    context = StackContext(
        application=fleet.application,
        environment_suffix=suffix,
        aws_region=fleet.region,
        default_tags=fleet.tags | own_tags,
        retention=RETENTIONS[fleet.retention],
        account_id=settings.account_id,
        state_bucket=settings.state_bucket,
        state_bucket_region=settings.state_bucket_region,
        access=settings.access,
    )
    endpoint = f"endpoint-{suffix}"
    missing: dict[str, str] = {}
    with staging(settings.outdir) as staged:
        app = App(outdir=str(staged), context=CONTEXT)
        platform = TapStack(
            app,
            f"tap-{suffix}",
            context,
            fleet=fleet,
            facilities=facilities.values(),
            code=code,
            compactor_code=compactor_code,
        )
        stacks = [
            _Stack(platform, platform_counts(fleet)),
            _Stack(EndpointStack(app, endpoint, context), ENDPOINT_COUNTS),
        ]
        for id_ in settings.facilities:
            facility = facilities[id_]
            stack = FacilityStack(
                app,
                f"facility-{id_}-{suffix}",
                replace(context, default_tags=fleet.tags | facility.tags | own_tags),
                facility=facility,
                folder=folder / facility.module,
                requests=requests[id_],
            )
            stack.add_dependency(platform)  # for cdktf-cli: it reads the order from manifest.json
            if stack.things.without_csr:
                missing[id_] = f"{stack.things.without_csr} of {facility.thing_count} things have no CSR yet"
            has_markers = context.retention.is_destroyable
            planned = facility_counts(facility, certificates=stack.things.certificates, has_markers=has_markers)
            stacks.append(_Stack(stack, planned, manifest_key=("facilities", id_)))
        notes = _missing_csrs(missing, settings)
        for each in stacks:
            check_owner(settings.outdir, each.name, application=fleet.application, account_id=settings.account_id)
        app.synth()
        for each in stacks:
            each.complete(staged, provider_lock=settings.provider_lock)
    notes += _lock(settings, facilities, requests, folder=folder)
    names = tuple(each.name for each in stacks if each.name != endpoint)
    return Synthesis(stacks=names, endpoint=endpoint, notes=notes)


def _checked_requests(
    settings: Settings, id_: str, *, facilities: Mapping[str, FacilitySpec], folder: Path
) -> Requests:
    """Return the CSRs of a facility's things.

    Raises:
        PrerequisiteError: a CSR differs from the lock, or has another thing's common name.
    """
    path, suffix = _csrs_file(settings, id_), settings.environment_suffix
    if facilities[id_].registration != "terraform":
        _refuse_lock(path, id_)
        return read_requests(path)
    things = {suffixed(name, suffix) for name in _names(facilities[id_], folder)}
    requests = read_requests(path, things)
    changed = differences(requests, read_lock(lock_file(path), things), things)
    found = {thing: difference for thing, difference in changed.items() if not difference.is_rotation}
    if found:
        thing, difference = next(iter(found.items()))
        more = f" (and {len(found) - 1} more things)" if len(found) > 1 else ""
        raise PrerequisiteError(
            f"{path}: {thing}{more} has {difference}, by {lock_file(path).name}: Terraform would delete the "
            f"certificate and lock the device out.",
            remedy="See all: fleet plan. If it is meant: fleet generate --allow breaks-identity.",
        )
    requests = {thing: request for thing, request in requests.items() if thing in things}
    everything = (name for each in facilities.values() for name in _names(each, folder))
    refuse_names_of_others(path, requests, suffix=suffix, planned=lambda: everything)
    return requests


def _refuse_lock(path: Path, id_: str) -> None:
    """Raise where Terraform has made the certificates of a plant that is in bulk now: an apply would delete them."""
    if lock_file(path).is_file():
        raise PrerequisiteError(
            f"{lock_file(path)} says that Terraform registered the things of {id_}, which is in bulk now: Terraform "
            "would delete them, with their certificates.",
            remedy=f"Hand them over: fleet device adopt --facility {id_}. If none was ever applied, delete the lock.",
        )


def _names(facility: FacilitySpec, folder: Path) -> Iterator[str]:
    """Yield the names of a facility's things, without suffix."""
    return (thing.name for thing in read_things(folder / facility.module / facility.things_file))


def _csrs_file(settings: Settings, facility: str) -> Path:
    return csrs_file(settings.identities, suffix=settings.environment_suffix, facility=facility)


def _lock(
    settings: Settings,
    facilities: Mapping[str, FacilitySpec],
    requests: Mapping[str, Requests],
    *,
    folder: Path,
) -> tuple[str, ...]:
    """Add new CSRs to the lock; return notes on these, on a lock that cannot be written, and on unplanned things."""
    notes = []
    for id_ in settings.facilities:
        if facilities[id_].registration != "terraform":
            continue
        path = _csrs_file(settings, id_)
        lock = lock_file(path)
        things = [suffixed(name, settings.environment_suffix) for name in _names(facilities[id_], folder)]
        try:
            before = read_lock(lock, things)
            written = lock_new(path, things, requests=requests[id_])
            if new := [thing for thing in written if thing not in before]:
                notes.append(
                    f"note: {id_}: keys without a line in {lock}, locked now: {len(new)}. Commit it; where they were "
                    "locked before, its history says with which keys."
                )
            if len(written) > len(new):
                notes.append(
                    f"note: {id_}: rotations and new keys noted in {lock}: {len(written) - len(new)}. Commit it."
                )
        except OSError as error:
            notes.append(f"note: {lock} cannot be written ({error.strerror}): keys of {id_} are not locked.")
        if strange := unplanned(read_lock(lock, things), things):
            more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
            notes.append(f"note: {lock} has {strange[0]}{more}, which {id_} does not plan: see fleet plan.")
    return tuple(notes)


def _missing_csrs(missing: Mapping[str, str], settings: Settings) -> tuple[str, ...]:
    """Return a note for each facility in `missing`; raise where every thing must have a CSR."""
    if missing and settings.requires_csrs:
        facts = "; ".join(f"{id_}: {fact}" for id_, fact in missing.items())
        which = "--all" if len(missing) > 1 else f"--facility {next(iter(missing))}"
        raise PrerequisiteError(
            f"{facts}, and FLEET_REQUIRE_CSRS asks for all.",
            remedy=f"Run `fleet keys create {which}`, or add theirs to {settings.identities}.",
        )
    return tuple(
        f"note: {id_}: {fact}: they are registered without certificate (`fleet keys create --facility {id_}`)."
        for id_, fact in missing.items()
    )
