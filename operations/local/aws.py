"""The local AWS that runs: its address and keys, its processes, Terraform's states, its services' statistics.

States are read from their files: Terraform itself needs a second for each.
"""

from __future__ import annotations

import configparser
import json
import os
import shlex
import ssl
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import botocore.session
from botocore.config import Config
from botocore.credentials import CredentialProvider, RefreshableCredentials

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.clients import open_session
from fleet_iot.operations.processes import ChildProcess, is_running, last_lines
from fleet_iot.operations.storage import write_private

HOST = "127.0.0.1"
ACCOUNT_ID = "000000000000"

UNITS = "/_fleet/units"
"""Path of the emulator that answers with what was asked of it."""

FACTS = "endpoint.json"
FACTS_VERSION = 2
"""1 had no secret."""

DEPLOYER = "deployer.json"
CREDENTIALS = "credentials"
CONFIG = "config"
"""In the format of AWS's own tools. https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html"""

DIRECT = Config(proxies={})
"""The user's proxy would be asked for loopback too."""

INHERITED = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "SYSTEMROOT")
"""All that a process which outlives the command inherits from the user's environment."""

PASSPHRASES = ("FLEET_KEYS_PASSPHRASE", "FLEET_BUNDLE_PASSPHRASE")
"""Variables that open private keys: no program that is started here needs them."""


def inherited_environment() -> dict[str, str]:
    """Return what every long-lived process inherits from the user: no secret, no proxy, no setting."""
    return {name: os.environ[name] for name in INHERITED if name in os.environ}


class Count(NamedTuple):
    """Units of one operation that one caller asked the emulator for."""

    caller: str
    unit: str
    operation: str
    amount: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalAws:
    """One local AWS: `folder` has all that it writes, `authority` signs its HTTPS, `mqtt_authority` its MQTT."""

    folder: Path
    url: str
    region: str
    mqtt_host: str
    mqtt_port: int
    authority: Path
    mqtt_authority: Path
    access_key: str
    secret_key: str = field(repr=False)
    children: tuple[ChildProcess, ...] = ()

    @property
    def logs(self) -> Path:
        """The folder of every process's log."""
        return self.folder / "logs"

    @property
    def decisions(self) -> Path:
        """The emulator's decisions on permissions, but root's: `allowed` or `denied`, access key, action, resource."""
        return self.logs / "decisions.log"

    @property
    def output(self) -> Path:
        """The folder of the synthesised stacks, with Terraform's states beside them."""
        return self.folder / "cdktf.out"

    def environment(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return `base` (default: this process's environment) with the local AWS's settings in place of AWS's.

        For Terraform and synthesis, which end with the command; see service_environment for what outlives it.
        """
        kept = {
            name: value
            for name, value in (os.environ if base is None else base).items()
            if not name.startswith("AWS_") and name not in PASSPHRASES
        }
        # A proxy would be asked for loopback too, by Lambda and Terraform.
        kept |= {"NO_PROXY": f"{HOST},localhost", "no_proxy": f"{HOST},localhost"}
        return kept | {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_CA_BUNDLE": str(self.authority),
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            # The user's profiles must not reach a local run, nor this run them.
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def save_deployer(self, access_key: str, secret_key: str, token: str) -> None:
        """Store the keys of the role that Terraform works under from now on."""
        keys = {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key, "AWS_SESSION_TOKEN": token}
        write_private(self.folder / DEPLOYER, json.dumps(keys))

    def deployer_environment(self) -> dict[str, str]:
        """Return the variables with the keys of the role that Terraform works under; none where it is root."""
        path = self.folder / DEPLOYER
        keys: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        return keys

    def service_environment(self) -> dict[str, str]:
        """Return the environment of rules engine, event source and function: nothing of the user's own."""
        temporary = str(self.folder / "tmp")
        return self.environment(inherited_environment()) | {"HOME": temporary, "TMPDIR": temporary}

    def client(self, service: str, **arguments: Any) -> Any:
        """Return a boto3 client of the local AWS, as root unless credentials are given."""
        if "aws_access_key_id" not in arguments:
            arguments |= {"aws_access_key_id": self.access_key, "aws_secret_access_key": self.secret_key}
        session = open_session(region_name=self.region)
        config = (arguments.pop("config", None) or Config()).merge(DIRECT)
        return session.client(service, endpoint_url=self.url, verify=str(self.authority), config=config, **arguments)

    def fetch(self, address: str) -> bytes:
        """Read a path of the emulator's own, or a URL that it gave out (always as plain http)."""
        parts = urllib.parse.urlsplit(address)
        own = urllib.parse.urlsplit(self.url)
        url = urllib.parse.urlunsplit(parts._replace(scheme=own.scheme, netloc=own.netloc))
        context = ssl.create_default_context(cafile=str(self.authority))
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {self.secret_key}"})  # noqa: S310
        with opener.open(request, timeout=30) as answer:
            return bytes(answer.read())

    def units(self) -> list[Count]:
        """Return what was asked of the emulator so far, in AWS's units."""
        return [Count(*each) for each in json.loads(self.fetch(UNITS))]

    def child(self, name: str) -> ChildProcess | None:
        """Return the child process of that name, running or not; None where there is none."""
        return next((child for child in self.children if child.name == name), None)

    def with_child(self, child: ChildProcess) -> LocalAws:
        """Return the local AWS with one more child, which replaces an earlier one of its name."""
        others = tuple(other for other in self.children if other.name != child.name)
        return replace(self, children=(*others, child))


def shell_commands(local: LocalAws) -> list[str]:
    """Build the shell commands that point the AWS CLI, boto3 and Terraform to the local AWS.

    They name the file that contains the keys and never a key: a terminal's output is copied and logged.
    """
    settings = {
        "AWS_SHARED_CREDENTIALS_FILE": str(local.folder / CREDENTIALS),
        "AWS_CONFIG_FILE": str(local.folder / CONFIG),
        "AWS_ENDPOINT_URL": local.url,
        "AWS_CA_BUNDLE": str(local.authority),
        "AWS_REGION": local.region,
        "AWS_DEFAULT_REGION": local.region,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    # They override the files.
    overriding = "AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_PROFILE AWS_DEFAULT_PROFILE"
    return [
        f"unset {overriding}",
        *(f"export {name}={shlex.quote(value)}" for name, value in settings.items()),
        *(f'export {name}="${{{name}:+${name},}}{HOST},localhost"' for name in ("NO_PROXY", "no_proxy")),
    ]


def save(local: LocalAws) -> None:
    """Write the facts into the folder, whole or not at all; the secret goes into a file of its own."""
    keys = {"aws_access_key_id": local.access_key, "aws_secret_access_key": local.secret_key}
    write_private(local.folder / CREDENTIALS, _profile(keys))
    settings = {"region": local.region, "endpoint_url": local.url, "ca_bundle": str(local.authority)}
    write_private(local.folder / CONFIG, _profile(settings))
    facts = {"version": FACTS_VERSION, **asdict(local)}
    del facts["access_key"], facts["secret_key"]
    write_private(local.folder / FACTS, json.dumps(facts, indent=2, default=str) + "\n")


def _profile(settings: Mapping[str, str]) -> str:
    return "\n".join(["[default]", *(f"{name} = {value}" for name, value in settings.items()), ""])


def load(folder: Path, *, is_to_stop: bool = False) -> LocalAws:
    """Read the local AWS whose files are in `folder`.

    Args:
        folder: Where `fleet local up` put it.
        is_to_stop: Accept one of an earlier version too, which had no secret.

    Raises:
        EnvironmentFault: There is none, or not one of this version.
    """
    folder = folder.resolve()
    try:
        facts = json.loads((folder / FACTS).read_text())
        version = facts["version"]
        if version != FACTS_VERSION and not is_to_stop:
            raise EnvironmentFault(
                f"the local AWS in {folder} is of {'an earlier' if version < FACTS_VERSION else 'a later'} version",
                hint="start it again: fleet local down, then fleet local up (and fleet local apply)",
            )
        parser = configparser.RawConfigParser()
        parser.read(folder / CREDENTIALS)
        keys = parser["default"] if version == FACTS_VERSION else {}
        children = tuple(ChildProcess(**child) for child in facts["children"])
        return LocalAws(
            folder=folder,
            url=facts["url"],
            region=facts["region"],
            mqtt_host=facts["mqtt_host"],
            mqtt_port=facts["mqtt_port"],
            authority=Path(facts["authority"]),
            mqtt_authority=Path(facts["mqtt_authority"]),
            access_key=keys.get("aws_access_key_id", ""),
            secret_key=keys.get("aws_secret_access_key", ""),
            children=children,
        )
    except FileNotFoundError:
        raise EnvironmentFault(
            f"no local AWS is in {folder}", hint="start one: fleet local up (or say where it is: --dir)"
        ) from None
    except (OSError, ValueError, KeyError, TypeError):
        raise EnvironmentFault(
            f"{folder / FACTS} cannot be read as the facts of a local AWS",
            hint="end what runs with `fleet local down`, or delete the folder",
        ) from None


def applied_stacks(local: LocalAws) -> tuple[Path, ...]:
    """Return the folders of the stacks that have a Terraform state."""
    return tuple(sorted({state.parent for state in (local.output / "stacks").glob("*/*.tfstate")}))


def count_resources(stack: Path) -> int:
    """Count the managed resources in the stack's state."""
    return sum(len(resource["instances"]) for resource in _resources(stack))


def attributes_of(stack: Path, resource_type: str) -> list[dict[str, Any]]:
    """Return the attributes of each resource of a type in the stack's state."""
    return [
        instance["attributes"]
        for resource in _resources(stack)
        if resource["type"] == resource_type
        for instance in resource["instances"]
    ]


def _resources(stack: Path) -> Iterator[dict[str, Any]]:
    for state in stack.glob("*.tfstate"):
        try:
            resources = json.loads(state.read_text()).get("resources", [])
        except ValueError:
            continue  # Terraform is writing it at this moment
        yield from (resource for resource in resources if resource["mode"] == "managed")


READY_SECONDS = 60.0


def write_statistics(path: Path, document: dict[str, Any]) -> None:
    """Write a service's statistics in one step, so that no reader sees half of them."""
    staged = path.with_name(f"{path.name}.{os.getpid()}")
    staged.write_text(json.dumps(document, indent=2) + "\n")
    staged.replace(path)


def read_statistics(path: Path) -> dict[str, Any]:
    """Read a service's statistics; empty where it has written none yet."""
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return document if isinstance(document, dict) else {}


def require_running(child: ChildProcess | None, *, name: str) -> None:
    """Raise EnvironmentFault, with the last line of its log, where a process is dead or was never started."""
    if child is not None and is_running(child):
        return
    said = last_lines(Path(child.log), 1) if child else []
    raise EnvironmentFault(
        f"the {name} of the local AWS does not run{': ' + said[0] if said else ''}", hint="start it: fleet local apply"
    )


def await_ready(child: ChildProcess, path: Path, *, seconds: float = READY_SECONDS) -> None:
    """Wait until the service writes that it is ready: from then on it misses nothing. Raises EnvironmentFault."""
    deadline = time.monotonic() + seconds
    while True:
        said = read_statistics(path)
        if said.get("pid") == child.pid and said.get("is_ready"):
            return
        require_running(child, name=child.name)
        if time.monotonic() > deadline:
            raise EnvironmentFault(
                f"the {child.name} of the local AWS is not ready after {seconds:.0f} seconds",
                hint=f"its log may say why: {child.log}",
            )
        time.sleep(0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessState:
    """One process; `last_words` are the last lines of its log where it is dead."""

    name: str
    pid: int
    is_running: bool
    log: str
    last_words: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalStatus:
    """A local AWS as it is now; `resources` counts the managed resources in each stack's state."""

    folder: str
    url: str
    mqtt: str
    processes: tuple[ProcessState, ...]
    resources: dict[str, int]

    @property
    def is_whole(self) -> bool:
        """Return whether everything that was started still runs."""
        return bool(self.processes) and all(process.is_running for process in self.processes)


def local_status(local: LocalAws) -> LocalStatus:
    """Return the state of every process, and the number of resources in every stack."""
    return LocalStatus(
        folder=str(local.folder),
        url=local.url,
        mqtt=f"{local.mqtt_host}:{local.mqtt_port}",
        processes=tuple(
            ProcessState(
                name=child.name,
                pid=child.pid,
                is_running=(running := is_running(child)),
                log=child.log,
                last_words=() if running else tuple(last_lines(Path(child.log), 3)),
            )
            for child in local.children
        ),
        resources={stack.name: count_resources(stack) for stack in applied_stacks(local)},
    )


SESSION_SECONDS = 3600


class RoleSession:
    """A session of one role on the local AWS: services work under their own role and never as root."""

    def __init__(self, local: LocalAws, role_arn: str, *, session_name: str) -> None:
        self._local = local
        self._role_arn = role_arn
        self._session_name = session_name
        self._lock = threading.Lock()
        self._session: boto3.session.Session | None = None

    def environment(self) -> dict[str, str]:
        """Return fresh credentials as variables, for a process that cannot renew them."""
        keys = self._assume()
        return {
            "AWS_ACCESS_KEY_ID": keys["access_key"],
            "AWS_SECRET_ACCESS_KEY": keys["secret_key"],
            "AWS_SESSION_TOKEN": keys["token"],
        }

    def client(self, service: str, config: Config | None = None) -> Any:
        """Return a boto3 client whose credentials renew themselves."""
        with self._lock:
            if self._session is None:
                self._session = self._make_session()
            return self._session.client(
                service,
                endpoint_url=self._local.url,
                verify=str(self._local.authority),
                config=(config or Config()).merge(DIRECT),
            )

    def _make_session(self) -> boto3.session.Session:
        core = botocore.session.get_session()
        core.get_component("credential_provider").providers.insert(0, _AssumedRole(self._assume))
        return open_session(botocore_session=core, region_name=self._local.region)

    def _assume(self) -> dict[str, str]:
        answer = self._local.client("sts").assume_role(
            RoleArn=self._role_arn, RoleSessionName=self._session_name, DurationSeconds=SESSION_SECONDS
        )
        keys = answer["Credentials"]
        return {
            "access_key": keys["AccessKeyId"],
            "secret_key": keys["SecretAccessKey"],
            "token": keys["SessionToken"],
            "expiry_time": keys["Expiration"].isoformat(),
        }


class _AssumedRole(CredentialProvider):  # type: ignore[misc]
    METHOD = "local-assume-role"

    def __init__(self, assume: Any) -> None:
        super().__init__()
        self._assume = assume

    def load(self) -> RefreshableCredentials:
        return RefreshableCredentials.create_from_metadata(
            metadata=self._assume(), refresh_using=self._assume, method=self.METHOD
        )
