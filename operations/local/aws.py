"""The facts of one local AWS that runs: where it listens, whom to trust, and which processes are its own."""

from __future__ import annotations

import json
import os
import ssl
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import boto3

from generator.diagnostics import EnvironmentFault
from operations.local.processes import ChildProcess

HOST = "127.0.0.1"
ACCOUNT_ID = "000000000000"
ROOT_KEY = "test"
"""Access key and secret of the emulator's root user; any other unknown key is refused."""

FACTS = "endpoint.json"
FACTS_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalAws:
    """One local AWS: `folder` holds all that it writes, `authority` signs its HTTPS, `mqtt_authority` its MQTT."""

    folder: Path
    url: str
    region: str
    mqtt_host: str
    mqtt_port: int
    authority: Path
    mqtt_authority: Path
    children: tuple[ChildProcess, ...] = ()

    @property
    def logs(self) -> Path:
        """Where every process of this local AWS writes its log."""
        return self.folder / "logs"

    @property
    def output(self) -> Path:
        """Where the stacks are synthesised; Terraform's states lie beside them."""
        return self.folder / "cdktf.out"

    def environment(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """`base` (else this process's environment), without its own AWS settings and with those of the local AWS."""
        kept = {k: v for k, v in (os.environ if base is None else base).items() if not k.startswith("AWS_")}
        # A proxy would be asked for loopback too, and Lambda or Terraform would speak to it.
        kept |= {"NO_PROXY": f"{HOST},localhost", "no_proxy": f"{HOST},localhost"}
        return kept | {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_CA_BUNDLE": str(self.authority),
            "AWS_ACCESS_KEY_ID": ROOT_KEY,
            "AWS_SECRET_ACCESS_KEY": ROOT_KEY,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            # A person's own profiles must not reach a machine-local run, nor this run them.
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def client(self, service: str, **arguments: Any) -> Any:
        """A boto3 client of the local AWS, as root unless credentials are given."""
        if "aws_access_key_id" not in arguments:
            arguments |= {"aws_access_key_id": ROOT_KEY, "aws_secret_access_key": ROOT_KEY}
        session = boto3.session.Session(region_name=self.region)
        return session.client(service, endpoint_url=self.url, verify=str(self.authority), **arguments)

    def fetch(self, address: str) -> bytes:
        """What the emulator serves at a path, or at a URL that it gave out (which says plain http, whatever it is)."""
        parts = urllib.parse.urlsplit(address)
        own = urllib.parse.urlsplit(self.url)
        url = urllib.parse.urlunsplit(parts._replace(scheme=own.scheme, netloc=own.netloc))
        context = ssl.create_default_context(cafile=str(self.authority))
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        with opener.open(url, timeout=30) as answer:
            return bytes(answer.read())

    def child(self, name: str) -> ChildProcess | None:
        """The child process of that name, running or not."""
        return next((child for child in self.children if child.name == name), None)

    def with_child(self, child: ChildProcess) -> LocalAws:
        """The same local AWS with one more child, which takes the place of an earlier one of its name."""
        others = tuple(other for other in self.children if other.name != child.name)
        return replace(self, children=(*others, child))


def save(local: LocalAws) -> None:
    """Writes the facts into the folder, whole or not at all."""
    facts = {"version": FACTS_VERSION, **asdict(local)}
    text = json.dumps(facts, indent=2, default=str) + "\n"
    staged = local.folder / f"{FACTS}.new"
    staged.write_text(text)
    staged.replace(local.folder / FACTS)


def load(folder: Path) -> LocalAws:
    """The local AWS whose files are in `folder`; a fault where there is none."""
    folder = folder.resolve()
    try:
        facts = json.loads((folder / FACTS).read_text())
        children = tuple(ChildProcess(**child) for child in facts["children"])
        return LocalAws(
            folder=folder,
            url=facts["url"],
            region=facts["region"],
            mqtt_host=facts["mqtt_host"],
            mqtt_port=facts["mqtt_port"],
            authority=Path(facts["authority"]),
            mqtt_authority=Path(facts["mqtt_authority"]),
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
