"""Describe what a release brings along, as CycloneDX 1.6: one SBOM of the package, one of the Lambda's zip.

Versions and hashes are those of the hashed locks; licences and dependencies are what the packages' own metadata say.
"""

from __future__ import annotations

import re
import tomllib
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import Distribution, distributions
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License, LicenseAcknowledgement
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LAMBDA_LOCK = Path("lambda") / "sensor_processor" / "requirements.txt"
COMPACTOR_LOCK = Path("lambda") / "archive_compactor" / "requirements.txt"
PACKAGE_LOCK = Path("requirements") / "main.txt"
PINNED = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>\S+)((?:\s*\\\n\s+--hash=sha256:[0-9a-f]{64})+)", re.M)
TARGET = {"python_version": "3.11", "python_full_version": "3.11.0", "sys_platform": "linux", "extra": ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """A package of a lock, with the SHA-256 of each of its files that may be installed."""

    name: str
    version: str
    hashes: tuple[str, ...]


def read_lock(path: Path) -> dict[str, Locked]:
    """Read a lock that was written with hashes, by canonical name."""
    found: dict[str, Locked] = {}
    for match in PINNED.finditer(path.read_text(encoding="utf-8")):
        hashes = tuple(sorted(re.findall(r"sha256:([0-9a-f]{64})", match[0])))
        name = canonicalize_name(match["name"])
        found[name] = Locked(name=name, version=match["version"], hashes=hashes)
    return found


def write_sboms(source: Path, output: Path, *, environment: Path, version: str, epoch: int) -> None:
    """Write both SBOMs of the files in `source` into `output`, valid against CycloneDX's schema.

    Args:
        environment: The virtual environment of requirements/main.txt, for the packages' metadata.
        epoch: The release's time, in seconds since the epoch.

    Raises:
        ValueError: A SBOM is not valid, or the environment is not what the lock says.
    """
    project = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    installed: dict[str, Distribution] = {
        canonicalize_name(each.metadata["Name"]): each
        for each in distributions(path=[str(path) for path in environment.glob("lib/python3.*/site-packages")])
    }
    package_lock, lambda_lock, compactor_lock = (
        read_lock(source / lock) for lock in (PACKAGE_LOCK, LAMBDA_LOCK, COMPACTOR_LOCK)
    )
    needed = [Requirement(text) for text in project["dependencies"]]
    boms = {
        "fleet-iot": (project["description"], package_lock, [canonicalize_name(each.name) for each in needed]),
        "sensor-processor": ("The Lambda function's zip: the sensor processor and its wheels.", lambda_lock, None),
        "archive-compactor": ("The zip of the archive's function, and its wheels.", compactor_lock, None),
    }
    for name, (description, lock, roots) in boms.items():
        top = Component(
            name=name,
            version=version,
            type=ComponentType.APPLICATION,
            description=description,
            bom_ref=name,
            licenses=[LicenseFactory().make_with_id(project["license"])],
            purl=PackageURL("pypi", name=name, version=version) if name == project["name"] else None,
        )
        bom = _bom(top, lock, installed, roots=list(lock) if roots is None else roots, epoch=epoch)
        text = JsonV1Dot6(bom).output_as_string(indent=2) + "\n"
        if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
            raise ValueError(f"the SBOM of {name} is not valid: {error}")
        (output / f"{name}-{version}.cdx.json").write_text(text, encoding="utf-8")


def _bom(
    top: Component,
    lock: Mapping[str, Locked],
    installed: Mapping[str, Distribution],
    *,
    roots: Iterable[str],
    epoch: int,
) -> Bom:
    """Return the SBOM of `top`, of its dependencies `roots`, and of theirs."""
    metadata = BomMetaData(component=top, timestamp=datetime.fromtimestamp(epoch, UTC))
    bom = Bom(metadata=metadata, serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"{top.name}@{top.version}/{epoch}"))
    # pip is a dependency that every environment brings along itself, and that no lock pins.
    waiting = [name for name in roots if name != "pip"]
    edges = {top.name: list(waiting)}
    components = {top.name: top}
    while waiting:
        name = waiting.pop()
        if name in components:
            continue
        components[name] = _component(lock, installed, name)
        needed = (Requirement(text) for text in installed[name].requires or ())
        edges[name] = [
            canonicalize_name(each.name) for each in needed if each.marker is None or each.marker.evaluate(TARGET)
        ]
        edges[name] = [each for each in edges[name] if each in lock]
        waiting += edges[name]
    for name, component in components.items():
        if component is not top:
            bom.components.add(component)
        bom.register_dependency(component, [components[each] for each in edges[name]])
    return bom


def _component(lock: Mapping[str, Locked], installed: Mapping[str, Distribution], name: str) -> Component:
    locked = lock.get(name)
    if locked is None or name not in installed or installed[name].version != locked.version:
        raise ValueError(f"{name} is not installed as the lock says: run `make setup`")
    purl = PackageURL("pypi", name=name, version=locked.version)
    files = ExternalReference(
        type=ExternalReferenceType.DISTRIBUTION,
        url=XsUri(str(purl)),
        comment="The files of this version that the lock accepts.",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in locked.hashes],
    )
    return Component(
        name=name,
        version=locked.version,
        type=ComponentType.LIBRARY,
        bom_ref=str(purl),
        purl=purl,
        external_references=[files],
        licenses=[_license(installed[name])],
    )


def _license(package: Distribution) -> License:
    """Return the licence that a package declares: an SPDX expression, a short text, or a classifier."""
    metadata = package.metadata
    classifiers = [each.rpartition(" :: ")[2] for each in metadata.get_all("Classifier", []) if "License ::" in each]
    texts = [metadata["License-Expression"], metadata["License"], " AND ".join(classifiers)]
    text = next((each for each in texts if each and "\n" not in each and each != "UNKNOWN"), "NOASSERTION")
    return LicenseFactory().make_from_string(text, license_acknowledgement=LicenseAcknowledgement.DECLARED)
