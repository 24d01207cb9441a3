"""One synthesis of the whole fleet for all tests, and builders of settings, facilities and CSRs."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fleet_iot.lib.record.read import read_record
from fleet_iot.lib.specs import AuditSpec, FacilityAlarmsSpec, FacilitySpec, FleetSpec, ThingGroupSpec, suffixed
from fleet_iot.lib.synthesis import settings
from tests.places import SAMPLE

ACCOUNT_ID = "123456789012"
SUFFIX = "tst"
HOST_ARCHITECTURE = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
RECORD = read_record(SAMPLE)
FLEET, FACILITIES, FOLDER = RECORD.fleet, RECORD.facilities, RECORD.folder

WITH_ALL_CSRS = "sg-01"
WITH_SOME_CSRS = "my-jb-01"
SOME = 3


@dataclass(frozen=True, kw_only=True)
class Stacks:
    """Synthesised stacks, by name, as Terraform reads them."""

    outdir: Path
    notes: tuple[str, ...]
    documents: Mapping[str, dict[str, Any]]

    @property
    def platform(self) -> Stack:
        return self[f"tap-{SUFFIX}"]

    def facility(self, id_: str) -> Stack:
        return self[f"facility-{id_}-{SUFFIX}"]

    def __getitem__(self, name: str) -> Stack:
        return Stack(name=name, document=self.documents[name])


@dataclass(frozen=True, kw_only=True)
class Stack:
    """One synthesised stack."""

    name: str
    document: dict[str, Any]

    def of(self, kind: str) -> dict[str, dict[str, Any]]:
        """All resources of a type, by logical id, without CDKTF's own notes."""
        return {
            id_: {key: value for key, value in body.items() if key != "//"}
            for id_, body in self.document["resource"].get(kind, {}).items()
        }

    def one(self, kind: str, id_: str) -> dict[str, Any]:
        return self.of(kind)[id_]

    def statements(self, kind: str, id_: str, field: str = "policy") -> dict[str, dict[str, Any]]:
        """The statements of a policy document, by Sid."""
        return {statement["Sid"]: statement for statement in json.loads(self.one(kind, id_)[field])["Statement"]}

    @property
    def addresses(self) -> list[str]:
        return sorted(f"{kind}.{id_}" for kind, bodies in self.document["resource"].items() for id_ in bodies)


def make_settings(**changes: Any) -> settings.Settings:
    """Settings of a synthesis of everything, in a literal account, for this host."""
    base = settings.read_settings(
        {
            "ENVIRONMENT_SUFFIX": SUFFIX,
            "FLEET_ACCOUNT_ID": ACCOUNT_ID,
            "FLEET_LAMBDA_ARCHITECTURE": HOST_ARCHITECTURE,
        },
        fleet=FLEET,
        facilities=FACILITIES.keys(),
        project=SAMPLE,
    )
    return dataclasses.replace(base, **changes)


def make_csr(name: str) -> str:
    """A certificate signing request for `name`, of a key that is thrown away."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return (
        request.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )


def thing_names(facility: str) -> list[str]:
    """The full names of a facility's things, in the order of its file."""
    spec = FACILITIES[facility]
    lines = (FOLDER / spec.module / spec.things_file).read_text().splitlines()
    return [suffixed(json.loads(line)["name"], SUFFIX) for line in lines]


def write_csrs(identities: Path, facility: str, names: list[str]) -> None:
    file = identities / SUFFIX / f"{facility}.csrs.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{json.dumps({'thing': name, 'csr': make_csr(name)})}\n" for name in names))


def synthesise(chosen: settings.Settings, *, fleet: FleetSpec = FLEET) -> Stacks:
    from fleet_iot.lib.synthesis import run as synthesis

    result = synthesis.synthesise(chosen, fleet=fleet, facilities=FACILITIES, folder=FOLDER)
    return Stacks(
        outdir=chosen.outdir,
        notes=result.notes,
        documents={
            name: json.loads((chosen.outdir / "stacks" / name / "cdk.tf.json").read_text())
            for name in (*result.stacks, result.endpoint)
        },
    )


@pytest.fixture(scope="session")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All CSRs of one plant, some of another's, none of the third's."""
    folder = tmp_path_factory.mktemp("identities")
    write_csrs(folder, WITH_ALL_CSRS, thing_names(WITH_ALL_CSRS))
    write_csrs(folder, WITH_SOME_CSRS, thing_names(WITH_SOME_CSRS)[:SOME])
    return folder


@pytest.fixture(scope="session")
def stacks(tmp_path_factory: pytest.TempPathFactory, identities: Path) -> Stacks:
    """The whole fleet, synthesised once."""
    return synthesise(make_settings(outdir=tmp_path_factory.mktemp("whole") / "cdktf.out", identities=identities))


@pytest.fixture(scope="session")
def records(tmp_path_factory: pytest.TempPathFactory, identities: Path) -> Stacks:
    """Platform and one plant with the manifest's other choices: years of retention, AWS IoT's log, an audit."""
    observability = dataclasses.replace(
        FLEET.observability, iot_logging="WARN", registry_events=False, certificate_audit=True
    )
    audit = AuditSpec(data_events="without-telemetry")
    fleet = dataclasses.replace(FLEET, retention="records", audit=audit, observability=observability)
    outdir = tmp_path_factory.mktemp("records") / "cdktf.out"
    return synthesise(make_settings(outdir=outdir, identities=identities, facilities=("sg-01",)), fleet=fleet)


@pytest.fixture(scope="session")
def synthesis_of(tmp_path_factory: pytest.TempPathFactory, identities: Path) -> Callable[..., Stacks]:
    """Synthesises once more, with other settings."""

    def build(**changes: Any) -> Stacks:
        outdir = tmp_path_factory.mktemp("other") / "cdktf.out"
        return synthesise(make_settings(**{"outdir": outdir, "identities": identities, **changes}))

    return build


@pytest.fixture
def fleet() -> FleetSpec:
    return FLEET


@pytest.fixture
def settings_with() -> Callable[..., settings.Settings]:
    return make_settings


@pytest.fixture
def csr() -> Callable[[str], str]:
    return make_csr


@pytest.fixture
def facility() -> Callable[..., FacilitySpec]:
    """A small plant of presses, as its folder would declare it."""

    def build(**changes: Any) -> FacilitySpec:
        group = ThingGroupSpec(
            device_type="press",
            thing_group="thing-group-p1-press",
            policy="policy-p1-press",
            policy_file="press.policy.json",
            count=2,
            silence_s=300,
        )
        alarms = FacilityAlarmsSpec(
            quarantine_percent=5.0, rule_failures=1, device_silence_intervals=5, anomalies_per_hour=20
        )
        values: dict[str, Any] = {
            "id": "p1",
            "module": "p1",
            "name": "Plant 1",
            "timezone": "UTC",
            "registration": "terraform",
            "thing_group": "thing-group-p1",
            "topic_rule": "rule_telemetry_p1",
            "topic_rule_file": "rule_telemetry_p1.sql",
            "provisioning_template": "template-p1",
            "dashboard": "dashboard-p1",
            "things_file": "things.jsonl",
            "thing_count": 2,
            "contact": None,
            "tags": {},
            "lines": (),
            "alarms": alarms,
            "groups": (group,),
        }
        return FacilitySpec(**{**values, **changes})

    return build
