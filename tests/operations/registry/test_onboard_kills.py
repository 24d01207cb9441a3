"""An onboarding that is killed anywhere is taken up again: every planned thing under its own key, nothing else."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from fleet_iot.operations.lists.material import key_digest
from tests.operations.lists.builders import make_certificate, new_key, pem
from tests.operations.registry.site import Site, asked_keys, keys_by_thing, site, thing_name

KILLS = int(os.environ.get("FLEET_KILLS", "10"))
SEED = int(os.environ.get("FLEET_KILLS_SEED", str(random.SystemRandom().randrange(2**32))))
KILLS_EACH = 5
THINGS = 250
LONGEST_S = 4.5
"""From start to kill: the first half second loads the program, then up to three are waited for lost answers."""


@pytest.mark.slow
@pytest.mark.parametrize("round_", range((KILLS + KILLS_EACH - 1) // KILLS_EACH))
def test_killed_and_resumed(tmp_path: Path, round_: int) -> None:
    """With CSRs and with certificates in turn; each pair is held against the key that was asked for."""
    moments = random.Random(f"{SEED}/{round_}")
    with site(tmp_path, things=THINGS, scale=4, csrs=round_ % 2 == 0) as place:
        if round_ % 2 == 0:
            first, wanted = (), asked_keys(place.project)
        else:
            first, wanted = certificates(tmp_path / "list.csv")
        delays = []
        for _ in range(min(KILLS_EACH, KILLS - round_ * KILLS_EACH)):
            delays.append(moments.uniform(0, LONGEST_S))
            kill_after(place, delays[-1], *(first if not is_begun(place) else ("--resume",)))
        told = f"killed after {delays} s; FLEET_KILLS_SEED={SEED}"
        if not is_begun(place):
            place.onboard(*first)
        elif not is_finished(place):
            place.onboard("--resume")
        state = place.service.state()
        assert wanted == keys_by_thing(state), told
        assert THINGS == len(wanted) == len(state["certificates"]), told
        assert {"ACTIVE"} == {certificate["status"] for certificate in state["certificates"].values()}, told
        assert THINGS == place.onboarded(*first)["already"], told


@pytest.mark.slow
def test_lost_answers(tmp_path: Path) -> None:
    """Every fifth new certificate's answer is lost: none is made twice, and none is left over."""
    with site(tmp_path, things=60, lose=0.2) as place:
        result = place.onboarded()
        assert (60, 0, []) == (result["onboarded"], result["failed"], result["orphans"])
        assert asked_keys(place.project) == keys_by_thing(place.service.state())
        assert result["calls"]["DescribeCertificate"] >= 3
        assert 60 == result["calls"]["CreateCertificateFromCsr"]


def certificates(path: Path) -> tuple[tuple[str, ...], dict[str, bytes]]:
    """A maker's list with certificates for all things; the arguments that name it, and the keys by thing."""
    keys = {thing_name(number): new_key() for number in range(1, THINGS + 1)}
    signer = new_key()
    rows = [f'{name},"{pem(make_certificate(name, key=key, signer=signer))}"\n' for name, key in keys.items()]
    path.write_text("name,certificate\n" + "".join(rows))
    return ("--from", str(path)), {name: key_digest(key.public_key()) for name, key in keys.items()}


def kill_after(place: Site, delay: float, *arguments: str) -> None:
    """Starts it and kills it so many seconds later, unless it is done by then."""
    with place.start(*arguments) as process:
        try:
            process.communicate(timeout=delay)
        except subprocess.TimeoutExpired:
            process.kill()


def is_begun(place: Site) -> bool:
    """Return whether the journal has a run."""
    return bool(runs(place))


def is_finished(place: Site) -> bool:
    """Return whether the last run is done."""
    return runs(place)[-1] is not None


def runs(place: Site) -> list[float | None]:
    """When each run in the journal was finished."""
    import sqlite3

    for path in place.journals.glob("*-*/*.sqlite"):
        with sqlite3.connect(path) as journal:
            if journal.execute("SELECT 1 FROM sqlite_master WHERE name = 'runs'").fetchone():
                return [finished for (finished,) in journal.execute("SELECT finished FROM runs ORDER BY id")]
    return []
