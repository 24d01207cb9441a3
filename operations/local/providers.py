"""Finds where Terraform can take its AWS provider from without the registry: a mirror on this machine."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet_iot.generator.diagnostics import EnvironmentFault

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
"""Folders looked at below the system folders before giving up: well under a second."""

SKIPPED = frozenset(
    {"node_modules", "site-packages", "docker", "containers", "containerd", "apt", "dpkg", "__pycache__"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSource:
    """Where `terraform init` takes the provider from; without `mirror` it looks for itself."""

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
    """The first place that holds the provider, in the order that docs/local-aws.md gives; else the registry."""
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
    for path in _below(system_folders, wanted.registry):
        source = _at(path, wanted, "found on this machine")
        if source is not None:
            return source
    return ProviderSource(mirror=None, is_packed=True, said=f"provider from {wanted.registry} (no mirror is here)")


def cli_configuration(variables: Mapping[str, str], *, tool: str = "terraform") -> Path | None:
    """Terraform's own configuration file; None where there is none, or where the variable names a missing one."""
    given = variables.get("TF_CLI_CONFIG_FILE") or variables.get("TERRAFORM_CONFIG")
    home = _home(variables)
    names = (".tofurc", ".terraformrc") if tool == "tofu" else (".terraformrc",)
    candidates = [Path(given)] if given else [home / name for name in names]
    return next((path for path in candidates if path.is_file()), None)


def cache_folder(variables: Mapping[str, str]) -> Path:
    """Where a provider that had to be downloaded or unpacked is kept for the next time."""
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
    """The mirror in `folder`, where it holds the wanted provider, unpacked or as Terraform's zip."""
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
    """Where Terraform itself looks: https://developer.hashicorp.com/terraform/cli/config/config-file#implied-local-mirror-directories."""
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


def _below(folders: tuple[Path, ...], registry: str) -> Iterator[Path]:
    """Folders at most SEARCH_DEPTH below the given ones that hold one named as the registry, nearest first."""
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
