"""Makes the authority, and opens it: its key sealed beside the devices' keys, its certificate and policy committed."""

from __future__ import annotations

import datetime
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fleet_iot.generator.diagnostics import EnvironmentFault, RequestError
from fleet_iot.operations.pki.keystore import KeyStore
from fleet_iot.operations.pki.places import CERTIFICATE, CRL
from fleet_iot.operations.pki.templates import SERIAL_BYTES, digest_of, key_usage
from fleet_iot.operations.storage import located

CURVES: dict[str, ec.EllipticCurve] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1()}
MOST_YEARS = 30
NAME_LENGTH = 64
"""Characters of a common name: https://www.rfc-editor.org/rfc/rfc5280#appendix-A.1 (ub-common-name)"""

SHORTEST = 10
"""Characters of the passphrase of a store that has an authority's key: more than devices' keys ask for, since whoever
opens it can make any device of the fleet."""

_STORE = "_authority"
"""Its file in the key store; no facility can have this id."""
_KEY = "authority"
_SKEW = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How long devices' certificates hold: `days` unless asked otherwise, `max_days` at most."""

    days: int
    max_days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the authority's public parts lie, all committed: below `identities/<environment suffix>/ca`."""

    folder: Path

    @property
    def certificate(self) -> Path:
        """Its certificate, PEM."""
        return self.folder / CERTIFICATE

    @property
    def policy(self) -> Path:
        """Its policy, JSON."""
        return self.folder / "policy.json"

    @property
    def crl(self) -> Path:
        """The list of what it revoked, PEM."""
        return self.folder / CRL

    def signed(self, facility: str) -> Path:
        """The certificates of a facility's devices, as a list that can be onboarded."""
        return self.folder / f"{facility}.certificates.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """The opened authority."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    policy: Policy


def make_authority(
    store: KeyStore, places: Places, *, name: str, curve: str, years: int, policy: Policy, now: datetime.datetime
) -> Authority:
    """A key in the store, and a self-signed certificate for it. Raises RequestError where there is one already.

    A run that was killed between the two is finished by the next, with the key that it left.
    """
    check_new(places, name=name, years=years, policy=policy)
    check_store(store)
    store.add(_STORE, [(_KEY, ec.generate_private_key(CURVES[curve]))])
    key = _key_of(store)
    if key is None:
        raise EnvironmentFault("the key store has not kept the authority's key", hint="run the command again")
    certificate = _self_signed(key, name=name, years=years, now=now)
    places.folder.mkdir(parents=True, exist_ok=True)
    write_whole(places.policy, json.dumps(asdict(policy), indent=2) + "\n")
    write_whole(places.certificate, certificate.public_bytes(serialization.Encoding.PEM).decode())
    return Authority(key=key, certificate=certificate, policy=policy)


def check_new(places: Places, *, name: str, years: int, policy: Policy) -> None:
    """Raises RequestError where there is an authority already, or where none can be made so."""
    if places.certificate.exists():
        raise RequestError(
            f"there is an authority already: {places.certificate}", hint="`fleet ca show` tells what it is"
        )
    if not name.isprintable() or not 1 <= len(name) <= NAME_LENGTH:
        raise RequestError(f"the name {name!r} is no common name", hint=f"give 1 to {NAME_LENGTH} letters: --name TEXT")
    if not 1 <= policy.days <= policy.max_days <= years * 365:
        raise RequestError(
            f"certificates of {policy.days} days, {policy.max_days} at most, do not fit into {years} years",
            hint="--days is at most --max-days, and that at most --years",
        )


def check_store(store: KeyStore) -> None:
    """Raises RequestError for a key store that is sealed too weakly for an authority's key."""
    if store.passphrase_length < SHORTEST:
        raise RequestError(
            f"the key store's passphrase has fewer than {SHORTEST} characters, too few for an authority's key",
            hint="found a store with a longer one: another FLEET_KEYS_DIR, and `fleet keys create` there",
        )


def open_authority(store: KeyStore, places: Places, *, now: datetime.datetime) -> Authority:
    """The authority with its key. Raises RequestError where there is none, or where it has expired."""
    certificate = read_certificate(places)
    key = _key_of(store)
    if key is None or key.public_key() != certificate.public_key():
        raise EnvironmentFault(
            f"the key of {places.certificate} is not in the key store", hint="point FLEET_KEYS_DIR at the right store"
        )
    if certificate.not_valid_before_utc > now:
        raise EnvironmentFault(
            f"this machine's clock says {now:%Y-%m-%d}, and the authority begins on "
            f"{certificate.not_valid_before_utc:%Y-%m-%d}",
            hint="set the clock right",
        )
    if certificate.not_valid_after_utc <= now:
        raise RequestError(
            f"the authority expired on {certificate.not_valid_after_utc:%Y-%m-%d}", hint="make another one"
        )
    return Authority(key=key, certificate=certificate, policy=read_policy(places))


def read_certificate(places: Places) -> x509.Certificate:
    """The authority's certificate. Raises RequestError where there is none, EnvironmentFault where it is damaged."""
    if not places.certificate.exists():
        raise RequestError(f"there is no authority in {places.folder}", hint="make one: fleet ca init")
    try:
        return x509.load_pem_x509_certificate(places.certificate.read_bytes())
    except ValueError:
        raise EnvironmentFault(f"{places.certificate} is damaged", hint="restore it from version control") from None


def read_policy(places: Places) -> Policy:
    """The authority's policy. Raises EnvironmentFault where it is damaged."""
    try:
        policy = Policy(**json.loads(places.policy.read_text(encoding="utf-8")))
        if not 1 <= policy.days <= policy.max_days:
            raise ValueError
    except (OSError, ValueError, TypeError):
        raise EnvironmentFault(
            f'{places.policy} is no policy {{"days": …, "max_days": …}}', hint="restore it from version control"
        ) from None
    return policy


def write_whole(path: Path, text: str) -> None:
    """Replaces a file: a killed run leaves the old one or the new one."""
    staged = path.with_name(f"{path.name}.new")
    with located(path):
        staged.unlink(missing_ok=True)
        try:
            with staged.open("x", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            staged.replace(path)
        finally:
            staged.unlink(missing_ok=True)


def _key_of(store: KeyStore) -> ec.EllipticCurvePrivateKey | None:
    return dict(store.keys(_STORE, {_KEY})).get(_KEY)


def _self_signed(key: ec.EllipticCurvePrivateKey, *, name: str, years: int, now: datetime.datetime) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    digest: hashes.SHA256 | hashes.SHA384 = digest_of(key.curve)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(int.from_bytes(b"\x40" + os.urandom(SERIAL_BYTES - 1), "big"))
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + datetime.timedelta(days=365 * years))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(own, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own), critical=False)
        .sign(key, digest)
    )
