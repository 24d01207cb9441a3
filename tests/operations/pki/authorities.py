"""An own authority with its things, as the tests of it need them."""

from __future__ import annotations

import datetime
import json
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from fleet_iot.operations.lists.formats import open_source
from fleet_iot.operations.pki.ca import (
    Authority,
    Order,
    Places,
    Policy,
    SigningResult,
    end_of,
    make_authority,
    sign_requests,
)
from fleet_iot.operations.pki.keystore import KeyStore
from fleet_iot.operations.pki.ledger import Ledger, opened_ledger
from tests.operations.lists.builders import make_request, pem

NOW = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
SUFFIX, PLANT = "dev", "sg-01"
THINGS = frozenset(f"{PLANT}-press-{number:04d}-{SUFFIX}" for number in range(1, 21))


@dataclass(frozen=True, kw_only=True)
class Works:
    """A folder with keys, public parts, and an authority."""

    folder: Path
    store: KeyStore
    places: Places
    authority: Authority
    ledger: Ledger

    def order(self, path: Path, **changes: Any) -> Order:
        order = Order(
            facility=PLANT,
            suffix=SUFFIX,
            source=open_source(path, format_name="auto"),
            planned=THINGS,
            not_after=end_of(self.authority, None, now=NOW),
            now=NOW,
        )
        return replace(order, **changes)

    def sign(self, path: Path, **changes: Any) -> SigningResult:
        return sign_requests(self.authority, self.ledger, self.order(path, **changes), target=self.list)

    @property
    def list(self) -> Path:
        return self.places.signed(PLANT)

    def certificates(self) -> dict[str, x509.Certificate]:
        """The list's certificates by thing."""
        rows = [json.loads(line) for line in self.list.read_text().splitlines()]
        return {row["name"]: x509.load_pem_x509_certificate(row["certificate"].encode()) for row in rows}

    def verifies(self, certificate: x509.Certificate, *, crl: bool = False) -> bool:
        """Return whether openssl accepts the certificate under its strict checks."""
        path = self.folder / "device.pem"
        path.write_text(pem(certificate))
        trust = ["-CAfile", str(self.places.certificate)]
        if crl:
            trust += ["-crl_check", "-CRLfile", str(self.places.crl)]
        at = ["-attime", str(int(NOW.timestamp()) + 60)]
        run = subprocess.run(
            ["openssl", "verify", "-x509_strict", "-purpose", "sslclient", *at, *trust, str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
        return run.returncode == 0


def start(folder: Path, *, curve: str = "P-256", years: int = 20) -> Works:
    """An authority in a folder."""
    store = KeyStore(folder / "keys", "tests only")
    places = Places(folder=folder / "identities" / SUFFIX / "ca")
    policy = Policy(days=300, max_days=360)
    authority = make_authority(store, places, name="a maker", curve=curve, years=years, policy=policy, now=NOW)
    with opened_ledger(folder / "keys", is_writing=True) as ledger:
        pass
    ledger = Ledger(ledger.path)
    return Works(folder=folder, store=store, places=places, authority=authority, ledger=ledger)


def write_requests(path: Path, keys: dict[str, ec.EllipticCurvePrivateKey]) -> Path:
    """The CSRs of things, as `fleet keys create` writes them."""
    rows = [{"thing": thing, "csr": pem(make_request(thing, key=key))} for thing, key in keys.items()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
