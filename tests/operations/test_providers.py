"""Search for Terraform's provider: its places, their order and their layouts."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations import terraform as providers
from fleet_iot.operations.terraform import cli_configuration, find_provider_mirror, find_terraform


def mirror(folder: Path, *, packed: bool = False, version: str = "5.100.0") -> Path:
    """A filesystem mirror that holds the provider for this machine."""
    held = folder / "registry.terraform.io" / "hashicorp" / "aws"
    platform = providers._platform()
    if packed:
        held.mkdir(parents=True)
        (held / f"terraform-provider-aws_{version}_{platform}.zip").write_bytes(b"zip")
    else:
        unpacked = held / version / platform
        unpacked.mkdir(parents=True)
        (unpacked / f"terraform-provider-aws_v{version}_x5").write_bytes(b"")
    return folder


def found(tmp_path: Path, *, system: tuple[Path, ...] = (), **variables: str) -> Path | None:
    """The mirror that is found by a person whose home is `tmp_path`/home."""
    environment = {"HOME": str(tmp_path / "home"), "XDG_DATA_DIRS": str(tmp_path / "share"), **variables}
    return find_provider_mirror(environment=environment, system_folders=system).mirror


def test_the_places_are_looked_at_in_their_order(tmp_path: Path) -> None:
    """The variable wins over Terraform's configuration, that over implied folders, those over system folders."""
    given, configured = mirror(tmp_path / "given"), mirror(tmp_path / "configured")
    implied = mirror(tmp_path / "home" / ".terraform.d" / "plugins")
    system = mirror(tmp_path / "opt" / "vendor" / "plugins")
    configuration = tmp_path / "terraform.rc"
    configuration.write_text(f'provider_installation {{\n  filesystem_mirror {{\n    path = "{configured}"\n  }}\n}}\n')
    folders = (tmp_path / "opt",)
    rc = {"TF_CLI_CONFIG_FILE": str(configuration)}
    assert [
        found(tmp_path, system=folders, FLEET_PROVIDER_MIRROR=str(given), **rc),
        found(tmp_path, system=folders, **rc),
        found(tmp_path, system=folders),
        found(tmp_path / "other", system=folders),
        found(tmp_path / "other"),
    ] == [given, configured, implied, system, None]


def test_packed_and_unpacked_mirrors_are_told_apart(tmp_path: Path) -> None:
    """Both layouts are found; a packed one is unpacked into the shared cache."""
    packed = {"FLEET_PROVIDER_MIRROR": str(mirror(tmp_path / "packed", packed=True))}
    unpacked = {"FLEET_PROVIDER_MIRROR": str(mirror(tmp_path / "unpacked"))}
    assert [find_provider_mirror(environment=each).is_packed for each in (packed, unpacked)] == [True, False]


def test_another_version_is_no_mirror(tmp_path: Path) -> None:
    """A folder with another version of the provider is passed over."""
    mirror(tmp_path / "opt" / "plugins", version="5.99.0")
    assert found(tmp_path, system=(tmp_path / "opt",)) is None


def test_a_mirror_too_deep_below_the_system_folders_is_not_looked_for(tmp_path: Path) -> None:
    """The search ends three folders below a system folder."""
    mirror(tmp_path / "opt" / "a" / "b" / "c" / "d")
    near = mirror(tmp_path / "srv" / "a" / "b" / "c")
    assert found(tmp_path, system=(tmp_path / "opt", tmp_path / "srv")) == near


def test_a_given_mirror_without_the_provider_is_a_fault(tmp_path: Path) -> None:
    """Whoever names a mirror wants that one: the fault says what is not in it."""
    with pytest.raises(EnvironmentFault) as fault:
        found(tmp_path, FLEET_PROVIDER_MIRROR=str(tmp_path))
    platform = providers._platform()
    assert fault.value.message == (
        f"FLEET_PROVIDER_MIRROR: {tmp_path} does not hold hashicorp/aws 5.100.0 for {platform}"
    )


def test_a_configuration_file_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    """TF_CLI_CONFIG_FILE may point to a missing file; it counts as none."""
    missing = {"HOME": str(tmp_path), "TF_CLI_CONFIG_FILE": str(tmp_path / "missing")}
    assert cli_configuration(missing) is None
    assert found(tmp_path, **missing) is None


def test_a_network_mirror_is_left_to_terraform(tmp_path: Path) -> None:
    """System folders are not searched where the configuration names a network mirror."""
    configuration = tmp_path / "terraform.rc"
    configuration.write_text(
        'provider_installation {\n  network_mirror {\n    url = "https://mirror.example/"\n  }\n}\n'
    )
    mirror(tmp_path / "opt" / "plugins")
    environment = {"HOME": str(tmp_path), "TF_CLI_CONFIG_FILE": str(configuration)}
    source = find_provider_mirror(environment=environment, system_folders=(tmp_path / "opt",))
    assert (source.mirror, source.said) == (None, f"provider from the network mirror of {configuration}")


def test_terraform_is_preferred_and_tofu_taken(tmp_path: Path) -> None:
    """OpenTofu is used where there is no Terraform."""
    programs = []
    for name in ("tofu", "terraform"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        programs.append(find_terraform({"PATH": str(tmp_path)}).name)
    assert programs == ["tofu", "terraform"]


def test_no_terraform_is_one_sentence_with_the_remedy(tmp_path: Path) -> None:
    """Without Terraform and OpenTofu the fault says what to install, with exit code 7."""
    with pytest.raises(EnvironmentFault) as fault:
        find_terraform({"PATH": str(tmp_path)})
    assert fault.value.message == "neither terraform nor tofu is on the PATH"
    assert "install Terraform" in (fault.value.hint or "")
    assert fault.value.exit_code == 7
