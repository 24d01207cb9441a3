"""Synthesise, plan and apply the stacks of an environment: the platform, then its plants, then the endpoint.

All stacks are planned before one is applied: plants refer to the platform by name only. A destroy goes the other way,
plants first.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fleet_iot.generator.diagnostics import EnvironmentFault, FleetError, GateError, OutcomeError, StaleError
from fleet_iot.lib.names import state_file
from fleet_iot.lib.record.read import INDEX_FILE
from fleet_iot.operations.deployment.bundle import (
    APPLIED,
    BEGUN,
    PLAN,
    REFUSED,
    UNFINISHED,
    Binding,
    Bundle,
    PlannedStack,
    Progress,
    file_digest,
    make_folder,
    note_progress,
    plan_file,
    read_progress,
    save,
    stack_digest,
    tool_version,
    unplanned,
)
from fleet_iot.operations.deployment.devices import with_rotations
from fleet_iot.operations.processes import readable_by_owner_only
from fleet_iot.operations.project import Project
from fleet_iot.operations.storage import exclusive
from fleet_iot.operations.terraform import (
    ATTACHMENTS,
    PlannedChange,
    Say,
    Terraform,
    TerraformFault,
    run_synthesis,
    silent,
)

PLATFORM, FACILITY, ENDPOINT = "tap-", "facility-", "endpoint-"
"""Beginnings of the stacks' names; each ends in the environment suffix."""

LOCAL_STATE = "in the stacks' folders"
"""Place of the states without a state bucket."""

AT_ONCE = 2
"""Each Terraform with its provider needs some 600 MB and most of a core."""

Status = Literal["planned", "unchanged", "applied", "applied before", "failed", "not applied"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Destination of a deployment, and the tools for it.

    Args:
        root: The project's folder.
        build: The folder of what commands make.
        output: The folder of the synthesised stacks.
        declared: The facilities of the approved record.
        variables: The environment of the synthesis.
        adapt: Changes the synthesised stacks for a local AWS.
        is_drift: Recognises a change that every plan of a local AWS has.
    """

    binding: Binding
    root: Path
    build: Path
    output: Path
    declared: frozenset[str]
    variables: Mapping[str, str]
    terraform: Terraform
    adapt: Callable[[Sequence[Path]], object] = lambda stacks: None
    is_drift: Callable[[PlannedChange], bool] = lambda change: False
    is_local: bool = False
    say: Say = silent

    @property
    def account(self) -> str | None:
        """Return the account that the states must be of; None for a local AWS, whose states are in its folder."""
        return None if self.is_local else self.binding.account

    def stack(self, name: str) -> Path:
        """Return the folder of a stack."""
        return self.output / "stacks" / name


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Outcome of one stack's plan."""

    stack: str
    status: Status
    added: int = 0
    changed: int = 0
    replaced: int = 0
    destroyed: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """The outcomes of all stacks, and the first fault."""

    outcomes: tuple[Outcome, ...]
    fault: FleetError | None = None


def binding(project: Project, *, account: str, region: str, state: str, terraform: Terraform) -> Binding:
    """Return what the plans of a project are bound to."""
    return Binding(
        application=project.fleet.application,
        environment=project.environment,
        suffix=project.environment_suffix,
        account=account,
        region=region,
        state=state,
        record=file_digest(project.record / INDEX_FILE),
        tool=tool_version(),
        terraform=terraform.version,
    )


@contextmanager
def reserved(output: Path) -> Iterator[None]:
    """Keep other deployments from the folder of the stacks. Raises EnvironmentFault where one runs."""
    output.mkdir(parents=True, exist_ok=True)
    try:
        with exclusive(output / ".deploying", waits=False):
            yield
    except BlockingIOError:
        raise EnvironmentFault(f"another deployment works in {output}", hint="wait until it has ended") from None


def stages(stacks: Iterable[str], *, is_destroy: bool = False) -> list[list[str]]:
    """Return names of stacks in the order of their work, those together that are independent of each other."""
    names = sorted(stacks)
    special = (PLATFORM, ENDPOINT)
    platform, endpoint = ([name for name in names if name.startswith(each)] for each in special)
    plants = [name for name in names if not name.startswith(special)]
    ordered = [plants, endpoint, platform] if is_destroy else [platform, plants, endpoint]
    return [stage for stage in ordered if stage]


def run_each(
    terraform: Terraform, stacks: Sequence[str], work: Callable[[str], None], *, finishing: Say | None = None
) -> None:
    """Work on independent stacks, a few at once.

    Where one fails, or at an interrupt, none is begun any more.

    Args:
        terraform: Runs in `work`.
        stacks: Their names.
        work: Works on one stack; in several threads.
        finishing: Finish the stacks that are being worked on at an interrupt, and say so: an interrupted provider
            drops the answers to its calls, and with them what AWS has made. Another interrupt ends them. None ends
            them at once.

    Raises:
        Exception: the first that a stack's work raised.
    """
    with ThreadPoolExecutor(max_workers=AT_ONCE) as workers:
        futures = [workers.submit(work, stack) for stack in stacks]
        try:
            for done in as_completed(futures):
                if not done.cancelled() and done.exception():
                    for future in futures:
                        future.cancel()
        except BaseException:
            for future in futures:
                future.cancel()
            try:
                if finishing:
                    finishing("interrupted: finishing what Terraform is applying; interrupt again to stop it")
                    wait(futures)
            finally:
                terraform.interrupt()
            raise
    for future in futures:
        if not future.cancelled():
            future.result()


def synthesise(
    *,
    root: Path,
    output: Path,
    variables: Mapping[str, str],
    facilities: Iterable[str] = (),
    log: Path | None = None,
    say: Say = silent,
) -> tuple[Path, ...]:
    """Synthesise platform and facilities (all, or those given); return the stacks' folders, the platform's first."""
    chosen = {"FLEET_FACILITIES": ",".join(facilities), "FLEET_OUTDIR": str(output)}
    done = run_synthesis(root, {**variables, **chosen}, log=log)
    for note in done.stderr.splitlines():
        say(note)
    return tuple(output / "stacks" / name for name in done.stdout.split())


def stacks_of(target: Target, *, facilities: Iterable[str] = (), has_endpoint: bool = False) -> tuple[Path, ...]:
    """Synthesise the stacks of a target, and the endpoint's where it is wanted; return their folders.

    Facilities that are no longer declared keep the stacks that were synthesised last.
    """
    facilities = tuple(facilities)
    suffix = target.binding.suffix
    chosen = [each for each in facilities if each in target.declared]
    stacks: tuple[Path, ...] = ()
    if chosen or not facilities:
        stacks = synthesise(
            root=target.root, output=target.output, variables=target.variables, facilities=chosen, say=target.say
        )
        stacks += (target.stack(f"{ENDPOINT}{suffix}"),) if has_endpoint else ()
        target.adapt(stacks)
    return stacks + tuple(target.stack(f"{FACILITY}{each}-{suffix}") for each in facilities if each not in chosen)


def prepare(terraform: Terraform, stacks: Iterable[Path], *, account: str | None = None, say: Say = silent) -> None:
    """Initialise stacks, one after the other, and recover states that an earlier apply could not write.

    Raises:
        GateError: a state has resources of another account than `account`, where that is given.
    """
    for stack in stacks:
        terraform.init(stack)
        if account is not None:
            refuse_other_accounts(stack.name, terraform.pull_state(stack), account)
        if terraform.recover(stack):
            say(f"{stack.name}: the state that an earlier apply could not write is written now")


ACCOUNT = re.compile(r"arn:[^:]+:[^:]*:[^:]*:([0-9]{12}):")


def refuse_other_accounts(stack: str, state: Mapping[str, Any], account: str) -> None:
    """Raise GateError where a state has resources of another account.

    The key of a state has application, suffix and stack. A second account with the same state bucket would find
    nothing of the first one's state in AWS, and drop it.
    """
    arns = (
        str(instance["attributes"].get("arn"))
        for resource in state.get("resources", ())
        if resource["mode"] == "managed"
        for instance in resource["instances"]
    )
    others = {found[1] for arn in arns if (found := ACCOUNT.match(arn))} - {account}
    if others:
        raise GateError(
            f"the state of {stack} is of account {min(others)}, and this is {account}",
            hint="use that account's credentials; or, for an environment in this account, set a suffix "
            "(ENVIRONMENT_SUFFIX) or a state bucket (TERRAFORM_STATE_BUCKET) of its own",
        )


@readable_by_owner_only()
def plan(
    target: Target,
    stacks: Sequence[Path],
    folder: Path,
    *,
    facilities: tuple[str, ...] = (),
    is_destroy: bool = False,
) -> tuple[Bundle, str]:
    """Plan stacks and save the plans in a folder; return the bundle and its digest."""
    make_folder(folder)
    prepare(target.terraform, stacks, account=target.account, say=target.say)
    found: dict[str, tuple[PlannedChange, ...]] = {}

    def work(name: str) -> None:
        found[name] = _plan_stack(target, name, folder / plan_file(name), is_destroy=is_destroy)

    run_each(target.terraform, [stack.name for stack in stacks], work)
    bundle = Bundle(
        binding=target.binding,
        is_destroy=is_destroy,
        facilities=facilities,
        stacks=tuple(
            PlannedStack(
                name=name,
                file=plan_file(name),
                sha256=file_digest(folder / plan_file(name)),
                stack_sha256=stack_digest(target.stack(name)),
                changes=found[name],
            )
            for name in sorted(found)
        ),
    )
    return bundle, save(bundle, folder)


def _plan_stack(target: Target, name: str, saved: Path, *, is_destroy: bool) -> tuple[PlannedChange, ...]:
    """Plan one stack; keep attachments that exist and that an interrupted run left as unfinished."""
    stack, terraform = target.stack(name), target.terraform
    changes = terraform.plan(stack, saved=saved, is_destroy=is_destroy)
    early = [each.address for each in changes if each.reason == UNFINISHED and each.resource_type in ATTACHMENTS]
    if early:
        terraform.untaint(stack, early)
        changes = terraform.plan(stack, saved=saved, is_destroy=is_destroy)
    return _judged(target, name, changes)


def _judged(target: Target, name: str, changes: Iterable[PlannedChange]) -> tuple[PlannedChange, ...]:
    """Return the changes of a stack's plan without a local AWS's drift, those that finish rotations as such."""
    return with_rotations(target.stack(name), (change for change in changes if not target.is_drift(change)))


def compare(target: Target, bundle: Bundle, folder: Path) -> None:
    """Prepare the stacks of an approved bundle, and compare it with its plan files, or with what is applied of it.

    Raises:
        StaleError: the state of a stack that was applied from it has changed since.
        GateError: `plan.json` has other changes than a plan file: Terraform would apply those of the file.
    """
    progress = read_progress(folder)
    planned = {stack.name: stack for stack in bundle.stacks}
    prepare(target.terraform, map(target.stack, planned), account=target.account, say=target.say)

    def work(name: str) -> None:
        before = progress.get(name)
        if before and before.step == APPLIED:
            if before.lineage is None or before != _applied(target, name):
                raise StaleError(f"the state of {name} has changed since this plan was applied", hint="plan it again")
            return
        saved = target.terraform.saved_changes(target.stack(name), folder / planned[name].file)
        if Counter(_judged(target, name, saved)) != Counter(planned[name].changes):
            raise GateError(
                f"{folder / PLAN} has other changes of {name} than {planned[name].file}",
                hint="plan it again, and have that plan approved",
            )

    run_each(target.terraform, list(planned), work)


def _applied(target: Target, name: str) -> Progress:
    """Return the progress of a stack that is applied now."""
    state = target.terraform.pull_state(target.stack(name))
    return Progress(step=APPLIED, lineage=state.get("lineage"), serial=state.get("serial"))


@readable_by_owner_only()
def apply(target: Target, bundle: Bundle, folder: Path) -> Deployed:
    """Apply exactly the plans of a bundle, and note each stack in it; return what became of each.

    A stack that was begun from this bundle before, or that has to be tried again, gets a new plan, which may contain
    only what remains of the approved one.
    """
    applying = _Applying(target, bundle, folder)
    fault: FleetError | None = None
    for stage in stages(applying.planned, is_destroy=bundle.is_destroy):
        try:
            run_each(target.terraform, stage, applying.work, finishing=target.say)
        except FleetError as error:
            fault = error
            break
        except KeyboardInterrupt:
            target.say("interrupted: run the same command again to go on")
            raise
    return Deployed(outcomes=applying.outcomes(), fault=fault)


class _Applying:
    """One apply of a bundle; `work` runs in several threads."""

    def __init__(self, target: Target, bundle: Bundle, folder: Path) -> None:
        self.planned = {stack.name: stack for stack in bundle.stacks}
        self._target, self._bundle, self._folder = target, bundle, folder
        self._progress = read_progress(folder)
        self._done: dict[str, Outcome] = {}
        self._lock = threading.Lock()

    def outcomes(self) -> tuple[Outcome, ...]:
        """Return the outcome of every stack, in the order of the work."""
        order = [name for stage in stages(self.planned, is_destroy=self._bundle.is_destroy) for name in stage]
        return tuple(self._done.get(name, Outcome(stack=name, status="not applied")) for name in order)

    def work(self, name: str) -> None:
        """Apply the plan of one stack."""
        planned, say = self.planned[name], self._target.say
        begun = time.monotonic()
        status: Status = "failed"
        try:
            if not planned.changes:
                status = "unchanged"
            elif self._step(name) == APPLIED:
                status = "applied before"
            else:
                say(f"{name}: {planned.said}")
                self._apply(planned)
                status = "applied"
        finally:
            seconds = time.monotonic() - begun
            is_done = status == "applied"
            self._done[name] = Outcome(
                stack=name,
                status=status,
                added=is_done * planned.count("create"),
                changed=is_done * planned.count("update"),
                replaced=is_done * planned.count("replace"),
                destroyed=is_done * planned.count("delete"),
                seconds=round(seconds, 1),
            )
            say(f"{name}: {status}" + (f" in {seconds:.0f} s" if is_done else ""))

    def _apply(self, planned: PlannedStack) -> None:
        def rest() -> Path:
            saved = self._folder / f"{planned.name}.rest.plan"
            remaining = _plan_stack(self._target, planned.name, saved, is_destroy=self._bundle.is_destroy)
            strange = unplanned(planned.changes, remaining)
            if strange:
                more = f" and {len(strange) - 1:,} more" if len(strange) > 1 else ""
                raise OutcomeError(
                    f"{planned.name} was applied in part, and what remains has {strange[0]}{more}, "
                    "which was not planned",
                    hint="plan it again, and have that plan approved",
                )
            return saved

        is_resumed = self._step(planned.name) == BEGUN
        self._note(planned.name, Progress(step=BEGUN))
        saved = rest() if is_resumed else self._folder / planned.file
        try:
            self._target.terraform.apply(
                self._target.stack(planned.name), saved=saved, replan=rest, say=self._target.say
            )
        except TerraformFault as fault:
            if fault.is_refusal:  # of a plan by its state: nothing of it was begun
                self._note(planned.name, Progress(step=REFUSED))
            raise
        self._note(planned.name, _applied(self._target, planned.name))

    def _step(self, stack: str) -> str | None:
        progress = self._progress.get(stack)
        return progress.step if progress else None

    def _note(self, stack: str, progress: Progress) -> None:
        with self._lock:
            note_progress(self._folder, stack, progress)


def has_local_state(stack: Path) -> bool:
    """Return whether a state lies in the stack's folder."""
    return (stack / state_file(stack.name)).is_file()


def orphans(target: Target, stacks: Iterable[Path]) -> tuple[str, ...]:
    """Return the names of other plants' stacks of this environment whose state lies beside them."""
    known = {stack.name for stack in stacks}
    found = (target.output / "stacks").glob(f"{FACILITY}*-{target.binding.suffix}")
    return tuple(sorted(each.name for each in found if each.name not in known and has_local_state(each)))
