"""Finds Terraform (or OpenTofu) and the AWS provider, runs them on stacks, and retries transient failures of AWS."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fleet_iot.generator.diagnostics import EnvironmentFault, FleetError, GateError, StaleError, WriteError
from fleet_iot.operations.processes import last_lines

PROVIDER = Path("hashicorp") / "aws"
PROVIDER_VERSION = "5.100.0"
"""The version that the CDKTF bindings are made for; the stacks require exactly it."""

REGISTRIES = {"terraform": "registry.terraform.io", "tofu": "registry.opentofu.org"}

SYSTEM_FOLDERS = tuple(
    Path(name)
    for name in (
        "/opt",
        "/srv",
        "/usr/share",
        "/usr/local/share",
        "/usr/lib",
        "/usr/local/lib",
        "/usr/libexec",
        "/var/lib",
        "/var/cache",
    )
)
SEARCH_DEPTH = 3
SEARCH_LIMIT = 20_000
"""Folders searched below the system folders before giving up: well under a second."""

SKIPPED = frozenset(
    {"node_modules", "site-packages", "docker", "containers", "containerd", "apt", "dpkg", "__pycache__"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSource:
    """The place where `terraform init` finds the provider; without `mirror` it looks by itself."""

    mirror: Path | None
    is_packed: bool
    said: str


def find_provider_mirror(
    *,
    tool: str = "terraform",
    version: str = PROVIDER_VERSION,
    environment: Mapping[str, str] | None = None,
    system_folders: tuple[Path, ...] = SYSTEM_FOLDERS,
) -> ProviderSource:
    """Find the first place that has the provider, in the order of docs/local-aws.md; else the registry."""
    variables = os.environ if environment is None else environment
    wanted = _Wanted(registry=REGISTRIES[tool], version=version, platform=_platform())
    given = variables.get("FLEET_PROVIDER_MIRROR")
    if given:
        source = _at(Path(given).expanduser(), wanted, "FLEET_PROVIDER_MIRROR")
        if source is None:
            raise EnvironmentFault(
                f"FLEET_PROVIDER_MIRROR: {given} does not hold {PROVIDER} {version} for {wanted.platform}",
                hint=f"name the folder that holds {wanted.registry}/, or unset it",
            )
        return source
    configuration = cli_configuration(variables, tool=tool)
    text = configuration.read_text(errors="replace") if configuration else ""
    for path in _filesystem_mirrors(text):
        source = _at(path, wanted, f"the filesystem mirror of {configuration}")
        if source is not None:
            return source
    if re.search(r"^\s*network_mirror\s*\{", text, re.MULTILINE):
        return ProviderSource(mirror=None, is_packed=True, said=f"provider from the network mirror of {configuration}")
    for path in (*_implied_folders(variables), cache_folder(variables)):
        source = _at(path, wanted, "a folder that Terraform looks into" if path != cache_folder(variables) else "cache")
        if source is not None:
            return source
    for path in _folders_with(system_folders, wanted.registry):
        source = _at(path, wanted, "found on this machine")
        if source is not None:
            return source
    return ProviderSource(mirror=None, is_packed=True, said=f"provider from {wanted.registry} (no mirror is here)")


def cli_configuration(variables: Mapping[str, str], *, tool: str = "terraform") -> Path | None:
    """Find Terraform's configuration file; None where there is none, or where the variable names a missing one."""
    given = variables.get("TF_CLI_CONFIG_FILE") or variables.get("TERRAFORM_CONFIG")
    home = _home(variables)
    names = (".tofurc", ".terraformrc") if tool == "tofu" else (".terraformrc",)
    candidates = [Path(given)] if given else [home / name for name in names]
    return next((path for path in candidates if path.is_file()), None)


def cache_folder(variables: Mapping[str, str]) -> Path:
    """Return the folder in which a downloaded or unpacked provider is kept for the next time."""
    given = variables.get("TF_PLUGIN_CACHE_DIR")
    if given:
        return Path(given).expanduser()
    caches = variables.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else _home(variables) / ".cache") / "fleet" / "terraform-plugins"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    registry: str
    version: str
    platform: str


def _at(folder: Path, wanted: _Wanted, origin: str) -> ProviderSource | None:
    """Return the mirror in `folder`, where it has the wanted provider, unpacked or as Terraform's zip."""
    held = folder / wanted.registry / PROVIDER
    unpacked = held / wanted.version / wanted.platform
    packed = held / f"terraform-provider-aws_{wanted.version}_{wanted.platform}.zip"
    try:
        is_unpacked = any(unpacked.glob("terraform-provider-aws*"))
        if not is_unpacked and not packed.is_file():
            return None
    except OSError:
        return None
    return ProviderSource(
        mirror=folder, is_packed=not is_unpacked, said=f"provider from the mirror {folder} ({origin})"
    )


def _filesystem_mirrors(text: str) -> list[Path]:
    blocks = re.findall(r"^\s*filesystem_mirror\s*\{(.*?)\}", text, re.MULTILINE | re.DOTALL)
    paths = [re.search(r'^\s*path\s*=\s*"([^"]+)"', block, re.MULTILINE) for block in blocks]
    return [Path(found.group(1)).expanduser() for found in paths if found]


def _implied_folders(variables: Mapping[str, str]) -> list[Path]:
    """Return the folders that Terraform itself searches: https://developer.hashicorp.com/terraform/cli/config/config-file#implied-local-mirror-directories."""
    home = _home(variables)
    if sys.platform == "darwin":
        shared = [
            home / "Library" / "Application Support" / "io.terraform",
            Path("/Library/Application Support/io.terraform"),
        ]
    else:
        data = variables.get("XDG_DATA_HOME") or str(home / ".local" / "share")
        folders = [data, *(variables.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share").split(":")]
        shared = [Path(folder) / "terraform" for folder in folders if folder]
    return [folder / "plugins" for folder in (home / ".terraform.d", *shared)]


def _folders_with(folders: tuple[Path, ...], registry: str) -> Iterator[Path]:
    """Find folders that contain one named as the registry, at most SEARCH_DEPTH below the given ones, nearest first."""
    looked_at = 0
    level = [folder for folder in folders if folder.is_dir()]
    for _ in range(SEARCH_DEPTH + 1):
        following: list[Path] = []
        for folder in level:
            looked_at += 1
            if looked_at > SEARCH_LIMIT:
                return
            try:
                inner = sorted(
                    entry.name
                    for entry in os.scandir(folder)
                    if entry.is_dir(follow_symlinks=False) or entry.is_symlink()
                )
            except OSError:
                continue
            if registry in inner:
                yield folder
            following += [folder / name for name in inner if name not in SKIPPED and not (folder / name).is_symlink()]
        level = following


def _home(variables: Mapping[str, str]) -> Path:
    return Path(variables.get("HOME") or Path.home())


def _platform() -> str:
    machine = platform.machine().lower()
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
    return f"{sys.platform}_{architecture}"


# AWS IoT attaches and detaches principals asynchronously. The AWS provider reads an attachment back at once and,
# where it finds none, fails and marks it as tainted; and it tries once to delete things, certificates and policies,
# while AWS still counts them as attached. Trying again succeeds.
# https://docs.aws.amazon.com/iot/latest/apireference/API_DetachThingPrincipal.html

PAUSES_S = (5.0, 10.0, 20.0, 40.0, 80.0, 160.0)
"""Seconds before each retry. A policy may count as attached for five minutes after it was detached, the longest wait.
https://docs.aws.amazon.com/iot/latest/apireference/API_DetachPolicy.html"""

READ_TOO_EARLY = re.compile(
    r"reading IoT (?P<what>(?:Thing Principal|Policy) Attachment) \(.*\): (?:empty result|couldn't find resource)"
)
NOT_YET_DETACHED = re.compile(
    r"deleting IoT (?:Thing|Certificate|Policy) \(.*\bDelete(?P<what>Thing|Certificate|Policy),.*"
    r"(?:InvalidRequestException: .*\bstill attached to one or more principals"
    r"|DeleteConflictException: .*(?:\bmust be detached before deletion|\bis attached to one or more\b))"
)
TRANSIENT = re.compile(
    "Throttling(Exception)?|ThrottledException|RequestLimitExceeded|TooManyRequestsException|SlowDown"
    "|ConcurrentModification(Exception)?|ConflictingResourceUpdateException|OperationAborted|RequestTimeout"
    "|InternalFailure(Exception)?|InternalServerError|InternalServiceError(Exception)?|InternalError"
    "|ServiceUnavailable(Exception)?"
)
"""Codes with which AWS asks to send the same request again; the provider, too, retries most of them for a while.
https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html"""

CODE = re.compile(
    r"\bhttps response error StatusCode: \d+, RequestID: [^,]*,(?: HostID: [^,]*,)? (?:api error )?(?P<code>\w+):"
)
"""An error's code in a message of the AWS SDK for Go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TerraformError:
    """An error as Terraform's `-json` reports it; `address` is '' where it concerns no resource."""

    address: str
    summary: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsettled:
    """Failures that another try can resolve; `tainted` are addresses that were read back too early."""

    tainted: tuple[str, ...]
    said: str


ATTACHMENTS = frozenset({"aws_iot_policy_attachment", "aws_iot_thing_principal_attachment"})
"""Types that are tainted where they were read back too early."""


def unsettled(errors: Iterable[TerraformError]) -> Unsettled | None:
    """Classify a failed run's errors; None unless a retry can resolve every one of them."""
    tainted: list[str] = []
    counts: Counter[str] = Counter()
    for error in errors:
        text = " ".join(f"{error.summary} {error.detail}".split())
        early, late = READ_TOO_EARLY.match(text), NOT_YET_DETACHED.match(text)
        if early and error.address:
            tainted.append(error.address)
            counts[f"{early['what']} read back too early"] += 1
        elif late:
            counts[f"{late['what']} not yet detached"] += 1
        elif (code := CODE.search(text)) and TRANSIENT.fullmatch(code["code"]):
            counts[code["code"]] += 1
        else:
            return None
    if not counts:
        return None
    return Unsettled(
        tainted=tuple(tainted), said=", ".join(f"{count} x {what}" for what, count in sorted(counts.items()))
    )


PARALLELISM = 16
"""With more, the emulator answers some certificate registrations with a conflict."""

INTERRUPT_SECONDS = 60.0
"""Seconds that an interrupted Terraform may need to finish the calls that it has begun and to write its state."""

POLL_SECONDS = 0.05

LOCKED = "Error acquiring the state lock"
STALE = "Saved plan is stale"
"""Summaries of errors of Terraform."""

ERRORED_STATE = "errored.tfstate"
"""File in the stack's folder with a state that Terraform could not write to its backend."""

PLAN_FILE = "terraform.plan"
"""Where, in the stack's folder, a plan that is shown as a document lies."""

PREAMBLE = "Terraform encountered problems during initiali"
"""Beginning of a failed init's message, before the fault."""

Say = Callable[[str], None]


def silent(line: str) -> None:
    """Say nothing."""


UNWANTED = ("TF_WORKSPACE", "TF_DATA_DIR", "TF_CLI_ARGS", "TF_INPUT")
"""Settings of the user that would make Terraform work elsewhere or otherwise than these commands expect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedChange:
    """The action of a plan on one resource: create, update, delete or replace; `reason` is Terraform's word for why."""

    address: str
    action: str
    reason: str = ""

    @property
    def resource_type(self) -> str:
        """Return the type of the resource."""
        return self.address.partition(".")[0]


EVENT_REASONS = {
    "replace_because_cannot_update": "cannot_update",
    "replace_because_tainted": "tainted",
    "replace_by_request": "requested",
    "replace_by_triggers": "replace_triggered_by",
}
"""Terraform's reasons in a saved plan that its events name otherwise.
https://developer.hashicorp.com/terraform/internals/json-format#plan-representation"""


def find_terraform(environment: Mapping[str, str] | None = None) -> Path:
    """Find Terraform on the PATH, else OpenTofu. Raises EnvironmentFault where neither is there."""
    path = (os.environ if environment is None else environment).get("PATH", os.defpath)
    for name in ("terraform", "tofu"):
        found = shutil.which(name, path=path)
        if found:
            return Path(found)
    raise EnvironmentFault(
        "neither terraform nor tofu is on the PATH",
        hint="install Terraform (https://developer.hashicorp.com/terraform/install) or OpenTofu, version 1.6 or later",
    )


class TerraformFault(EnvironmentFault):
    """A Terraform command that failed; `errors` is all that it reported."""

    def __init__(self, message: str, *, hint: str, errors: Iterable[TerraformError] = ()) -> None:
        super().__init__(message, hint=hint)
        self.errors = tuple(errors)

    @property
    def is_refusal(self) -> bool:
        """Return whether Terraform did nothing, because of the state: it has changed since the plan, or is locked."""
        return any(error.summary in (STALE, LOCKED) for error in self.errors)


class Terraform:
    """One Terraform with its provider and environment; safe to use from several threads on different stacks.

    Args:
        binary: Terraform or OpenTofu.
        provider: Where the AWS provider comes from.
        environment: Environment of every command.
        logs: The folder that each command's output is appended to, a file a stack.
        pauses: Seconds before each retry of an apply or destroy.
        say: Gets a line where a command has to wait for another run.
        sleep: Waits for that many seconds.
    """

    def __init__(
        self,
        *,
        binary: Path,
        provider: ProviderSource,
        environment: Mapping[str, str],
        logs: Path,
        pauses: Sequence[float] = PAUSES_S,
        say: Say = silent,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.provider = provider
        self._pauses = tuple(pauses)
        self._say = say
        self._sleep = sleep
        self._binary = binary
        self._logs = logs
        self._running: set[subprocess.Popen[str]] = set()
        self._is_interrupted = False
        self._lock = threading.Lock()
        kept = {k: v for k, v in environment.items() if not k.startswith(UNWANTED)}
        if cli_configuration(environment) is None:
            # Set, but to a file that is not there: Terraform would print a warning with every command.
            kept.pop("TF_CLI_CONFIG_FILE", None)
        self._environment = kept | {"TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"}
        if provider.is_packed:
            cache = cache_folder(environment)
            cache.mkdir(parents=True, exist_ok=True)
            self._environment |= {
                "TF_PLUGIN_CACHE_DIR": str(cache),
                "TF_PLUGIN_CACHE_MAY_BREAK_DEPENDENCY_LOCK_FILE": "true",
            }

    def init(self, stack: Path) -> None:
        """Prepare a stack's folder. Run it for one stack after the other: the shared cache allows no two at once."""
        mirror = self.provider.mirror
        try:
            self._run(stack, "init", "-input=false", *([f"-plugin-dir={mirror}"] if mirror else []))
        except EnvironmentFault as fault:
            if mirror is None:
                fault.hint = (
                    "without the registry, name a folder with the provider in FLEET_PROVIDER_MIRROR "
                    f"(docs/local-aws.md); {fault.hint}"
                )
            raise

    def validate(self, stack: Path) -> str:
        """Validate a stack offline and return Terraform's answer. Raises EnvironmentFault with the first error."""
        return self._run(stack, "validate")

    def plan(self, stack: Path, *, saved: Path | None = None, is_destroy: bool = False) -> tuple[PlannedChange, ...]:
        """Return what an apply would change, empty where nothing; `saved` is a file for the plan itself."""
        options = [*(["-destroy"] if is_destroy else []), *([f"-out={saved.resolve()}"] if saved else [])]
        changes = []
        for event in self._run_events(stack, "plan", "-input=false", f"-parallelism={PARALLELISM}", *options):
            if event.get("type") == "planned_change":
                change = event["change"]
                changes.append(
                    PlannedChange(
                        address=change["resource"]["addr"], action=change["action"], reason=change.get("reason", "")
                    )
                )
        return tuple(changes)

    def recover(self, stack: Path) -> bool:
        """Write a state that an earlier apply could not write to its backend; return whether there was one.

        Raises:
            EnvironmentFault: the backend has a later state, or does not take it.
        """
        left = stack / ERRORED_STATE
        if not left.is_file():
            return False
        self._piped(stack, "state", "push", str(left.resolve()))
        left.unlink()
        return True

    @cached_property
    def version(self) -> str:
        """Return the version of the program, such as 1.11.4."""
        command = [str(self._binary), "version", "-json"]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        try:
            return str(json.loads(done.stdout)["terraform_version"])
        except (ValueError, KeyError):
            raise EnvironmentFault(
                f"{self._binary} does not say its version", hint=f"see {' '.join(command)}"
            ) from None

    def plan_document(self, stack: Path) -> dict[str, Any]:
        """Return the whole plan as `terraform show -json` prints it; reads no state."""
        self._run(stack, "plan", "-input=false", "-refresh=false", "-lock=false", f"-out={PLAN_FILE}")
        output = self._run(stack, "show", "-json", PLAN_FILE)
        document, _ = json.JSONDecoder().raw_decode(output, output.index("{"))
        assert isinstance(document, dict)  # noqa: S101 - Terraform's own format
        return document

    def saved_changes(self, stack: Path, saved: Path) -> tuple[PlannedChange, ...]:
        """Return the changes of a saved plan, as `plan` returned them, in another order; the stack is initialised."""
        output = self.show(stack, saved)
        document, _ = json.JSONDecoder().raw_decode(output, output.index("{"))
        return tuple(
            PlannedChange(
                address=each["address"],
                action="replace" if len(actions) > 1 else actions[0],
                reason=EVENT_REASONS.get(reason, reason),
            )
            for each in document.get("resource_changes", ())
            if (actions := each["change"]["actions"]) != ["no-op"]
            for reason in [each.get("action_reason", "")]
        )

    def apply(
        self, stack: Path, *, saved: Path | None = None, replan: Callable[[], Path] | None = None, say: Say = silent
    ) -> None:
        """Make what the stack declares, or what a saved plan says.

        Args:
            stack: The stack's folder.
            saved: A plan of it, which is applied once.
            replan: Returns the plan for each retry: a saved one is stale then.
            say: Gets a line for each retry.
        """
        self._settle(stack, "apply", say, saved=saved, replan=replan)

    def destroy(self, stack: Path, *, say: Say = silent) -> None:
        """Destroy all that is in the stack's state; `say` gets a line for each retry."""
        self._settle(stack, "destroy", say)

    def _settle(
        self,
        stack: Path,
        command: str,
        say: Say,
        *,
        saved: Path | None = None,
        replan: Callable[[], Path] | None = None,
    ) -> None:
        """Run a command, and retry it after what another try can resolve; any other error ends it at once."""
        for pause in (*self._pauses, None):
            try:
                plan = [str(saved.resolve())] if saved else []
                self._run_events(
                    stack, command, "-auto-approve", "-input=false", f"-parallelism={PARALLELISM}", saved=plan
                )
                return
            except TerraformFault as fault:
                late = unsettled(fault.errors)
                if late is None or pause is None or self._is_interrupted:
                    raise
            line = f"{stack.name}: {command} again in {pause:g} s, after: {late.said}"
            say(line)
            self._note(stack, line)
            self._sleep(pause)
            if self._is_interrupted:
                raise EnvironmentFault(f"{self._binary.name} {command} of {stack.name} was interrupted", hint=line)
            self.untaint(stack, late.tainted)
            saved = replan() if replan else None

    def untaint(self, stack: Path, addresses: Iterable[str]) -> None:
        """Untaint resources that exist, so that the next apply reads them and does not make them again.

        All in one step: `terraform untaint` accepts one address a run, so that thousands of attachments would need an
        hour.
        """
        wanted = set(addresses)
        if not wanted:
            return
        state = self.pull_state(stack)
        for resource in state["resources"]:
            for instance in resource["instances"]:
                if instance.get("status") == "tainted" and _address(resource, instance) in wanted:
                    del instance["status"]
        self.push_state(stack, state)

    def pull_state(self, stack: Path) -> dict[str, Any]:
        """Return the stack's state; without `resources` where it has none. It is piped, and never written to a disk but
        its backend's."""
        state: dict[str, Any] = json.loads(self._piped(stack, "state", "pull") or "{}")
        return state

    def push_state(self, stack: Path, state: Mapping[str, Any]) -> None:
        """Replace the stack's state by one that was pulled and changed; refused where it was changed meanwhile."""
        pushed = {**state, "serial": state["serial"] + 1}
        self._piped(stack, "state", "push", "-", given=json.dumps(pushed))

    def show(self, stack: Path, plan: Path | None = None) -> str:
        """Return the stack's state, or a saved plan, as the JSON text of `terraform show`."""
        return self._run(stack, "show", "-json", *([str(plan.resolve())] if plan else []), is_logged=False)

    def interrupt(self) -> None:
        """End every command that runs in any thread: by an interrupt, and by force after INTERRUPT_SECONDS."""
        self._is_interrupted = True
        with self._lock:
            running = list(self._running)
        for process in running:
            _signal_group(process, signal.SIGINT)
        for process in running:
            try:
                process.wait(INTERRUPT_SECONDS)
            except subprocess.TimeoutExpired:
                _signal_group(process, signal.SIGKILL)

    def log(self, stack: Path) -> Path:
        """Return the log of the commands on a stack."""
        return self._logs / f"terraform-{stack.name}.log"

    def _run(self, stack: Path, command: str, *arguments: str, is_logged: bool = True) -> str:
        # The option comes before what may be a file's name: nothing is an option after it.
        with self._process(stack, command, "-no-color", *arguments) as process:
            output = (process.stdout.read() if process.stdout else "") or ""
            code = process.wait()
            if is_logged or code:
                with self.log(stack).open("a") as log:
                    log.write(output)
        if code:
            errors = [line.partition("Error: ")[2] for line in output.splitlines() if "Error: " in line]
            raise self._fault(stack, command, [error for error in errors if not error.startswith(PREAMBLE)])
        return output

    def _run_events(self, stack: Path, *arguments: str, saved: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Run a command that reports in JSON lines; its log gets the readable part of each.

        It reports into a file: were this process killed, a pipe would end Terraform amid its calls, before it has
        written what it made into the state.
        """
        events: list[dict[str, Any]] = []
        report = self.log(stack).with_suffix(".jsonl")
        with (
            self._process(stack, *arguments, "-json", *saved, report=report) as process,
            self.log(stack).open("a") as log,
        ):
            for line in _followed(report, process):
                try:
                    event = json.loads(line)
                except ValueError:
                    log.write(line)
                    continue
                detail = event.get("diagnostic", {}).get("detail", "")
                log.write(f"{event.get('@message', '')}\n{detail + chr(10) if detail else ''}")
                events.append(event)
            code = process.wait()
        if code:
            diagnostics = [event["diagnostic"] for event in events if "diagnostic" in event]
            errors = [
                TerraformError(
                    address=each.get("address", ""), summary=each["summary"], detail=each.get("detail", "").strip()
                )
                for each in diagnostics
                if each.get("severity") == "error"
            ]
            # The first one is shown: not one that another try resolves, where there are others.
            errors.sort(key=lambda error: unsettled([error]) is not None)
            fault = self._fault(stack, arguments[0], [_sentence(error) for error in errors])
            raise TerraformFault(fault.message, hint=fault.hint or "", errors=errors)
        return events

    def _piped(self, stack: Path, *arguments: str, given: str = "") -> str:
        """Run a command that reads `given`, without logging its output."""
        with self._reserved(stack) as lock:
            done = subprocess.run(
                [str(self._binary), f"-chdir={stack}", *arguments],
                env=self._environment,
                input=given,
                capture_output=True,
                text=True,
                check=False,
                pass_fds=(lock,),
            )
        if done.returncode:
            self._note(stack, done.stderr)
            errors = [line.partition("Error: ")[2] for line in done.stderr.splitlines() if "Error: " in line]
            raise self._fault(stack, " ".join(arguments[:2]), errors)
        return done.stdout

    def _note(self, stack: Path, line: str) -> None:
        with self.log(stack).open("a") as log:
            log.write(f"{line}\n")

    def _fault(self, stack: Path, command: str, errors: list[str]) -> EnvironmentFault:
        log = self.log(stack)
        said = [" ".join(error.split()) for error in errors] or last_lines(log, 1) or ["no output"]
        if explained := _explained(self._binary.name, stack, errors):
            return explained
        more = f" (and {len(said) - 1} more)" if len(said) > 1 else ""
        return EnvironmentFault(
            f"{self._binary.name} {command} of {stack.name} failed: {said[0]}{more}",
            hint=f"see its log: {log}",
        )

    @contextmanager
    def _process(self, stack: Path, *arguments: str, report: Path | None = None) -> Iterator[subprocess.Popen[str]]:
        """Run a command on a stack, into a pipe or the file `report`; end it where an error ends the context."""
        self._logs.mkdir(parents=True, exist_ok=True)
        with self.log(stack).open("a") as log:
            log.write(f"$ {self._binary.name} {' '.join(arguments)}\n")
        with self._reserved(stack) as lock, ExitStack() as opened:
            process = subprocess.Popen(
                [str(self._binary), f"-chdir={stack}", *arguments],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=opened.enter_context(report.open("w")) if report else subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
                pass_fds=(lock,),
            )
            with self._lock:
                self._running.add(process)
            try:
                yield process
            except BaseException:
                self.interrupt()
                raise
            finally:
                with self._lock:
                    self._running.discard(process)
                if process.stdout:
                    process.stdout.close()

    @contextmanager
    def _reserved(self, stack: Path) -> Iterator[int]:
        """Keep other runs from a stack's folder, and wait for them; yield the lock's descriptor.

        Terraform inherits it: a run that outlives its killed parent keeps the lock until it ends.
        """
        self._logs.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.log(stack).with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            is_said = False
            while not _has_locked(descriptor):
                if not is_said:
                    self._say(f"{stack.name}: waiting for the Terraform of an earlier run")
                    is_said = True
                time.sleep(POLL_SECONDS)
                if self._is_interrupted:
                    raise EnvironmentFault(f"waiting for {stack.name} was interrupted", hint="run it again later")
            yield descriptor
        finally:
            os.close(descriptor)


def _has_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _followed(report: Path, process: subprocess.Popen[str]) -> Iterator[str]:
    """Yield the lines that a process writes into a file, until it has ended."""
    rest = ""
    with report.open() as lines:
        while True:
            has_ended = process.poll() is not None
            for text in lines:
                rest += text
                if rest.endswith("\n"):
                    yield rest
                    rest = ""
            if has_ended:
                break
            time.sleep(POLL_SECONDS)
    if rest:
        yield rest


def _explained(binary: str, stack: Path, errors: Sequence[str]) -> EnvironmentFault | None:
    """Return the fault for an error that a person would otherwise have to look up."""
    text = " ".join(" ".join(errors).split())
    if STALE in text:
        return EnvironmentFault(
            f"the state of {stack.name} has changed since it was planned",
            hint="plan it again, and have that plan approved",
        )
    if LOCKED in text:
        lock = dict(re.findall(r"\b(ID|Who|Created): +(\S+(?: [\d:]{8}(?=\.))?)", text))
        return EnvironmentFault(
            f"the state of {stack.name} is locked by {lock.get('Who', 'another run')}"
            f" since {lock.get('Created', 'an unknown time')}",
            hint="wait until that run has ended; where it was killed: "
            f"{binary} -chdir={stack} force-unlock {lock.get('ID', 'ID')}",
        )
    return None


class RefusedValueError(FleetError):
    """A synthesis found a value of the manifest that AWS refuses."""

    exit_code = 3


SYNTHESIS_FAULTS: dict[int, type[FleetError]] = {3: RefusedValueError, 4: StaleError, 5: GateError, 6: WriteError}
"""Error of each exit code of a synthesis; any other code is the environment's."""


def run_synthesis(
    root: Path, environment: Mapping[str, str], *, log: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Synthesise the stacks of the project at `root`, in a process of its own.

    Args:
        root: The project's folder.
        environment: The process's environment, which decides plants, account and output folder.
        log: Gets everything that the process prints.

    Raises:
        EnvironmentFault: It failed; with its first error.
    """
    command = [sys.executable, "-P", "-m", "fleet_iot.lib.app"]
    done = subprocess.run(command, cwd=root, env=dict(environment), capture_output=True, text=True, check=False)
    if log is not None:
        log.write_text(done.stdout + done.stderr)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.lower().startswith("error")]
        first = (errors or lines[-1:] or ["no output"])[0].removeprefix("error: ")
        kind = SYNTHESIS_FAULTS.get(done.returncode, EnvironmentFault)
        raise kind(f"the stacks cannot be synthesised: {first}", hint="to see all of it: fleet synth")
    return done


def terraform_for(
    *, environment: Mapping[str, str], logs: Path, pauses: Sequence[float] = PAUSES_S, say: Say = silent
) -> Terraform:
    """Find this machine's Terraform and provider. Raises EnvironmentFault where one is missing."""
    binary = find_terraform(environment)
    provider = find_provider_mirror(
        tool="tofu" if binary.name.startswith("tofu") else "terraform", environment=environment
    )
    return Terraform(binary=binary, provider=provider, environment=environment, logs=logs, pauses=pauses, say=say)


def _sentence(error: TerraformError) -> str:
    """Join an error's address, summary and first line of detail."""
    is_lock = error.summary == LOCKED
    detail = error.detail if is_lock else error.detail.partition("\n")[0]
    return ": ".join(part for part in (error.address, error.summary, detail) if part)


def _address(resource: Mapping[str, Any], instance: Mapping[str, Any]) -> str:
    """Return a resource's address as Terraform's messages write it, from its place in a state."""
    module = f"{resource['module']}." if "module" in resource else ""
    index = f"[{json.dumps(instance['index_key'])}]" if "index_key" in instance else ""
    return f"{module}{resource['type']}.{resource['name']}{index}"


def _signal_group(process: subprocess.Popen[str], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
