"""The root certificates that AWS IoT's endpoints are known by, out of Mozilla's list as certifi carries it."""

from __future__ import annotations

import warnings
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from fleet_iot.generator.diagnostics import EnvironmentFault

ROOTS = {
    "Amazon Root CA 1": "8ecde6884f3d87b1125ba31ac3fcb13d7016de7f57cc904fe1cb97c6ae98196e",
    "Amazon Root CA 3": "18ce6cfe7bf14e60b2e347b8dfe868cb31d02ebb3ada271569f50343b46db3a4",
}
"""SHA-256 of each certificate: https://www.amazontrust.com/repository/; those of RSA and of ECC endpoints:
https://docs.aws.amazon.com/iot/latest/developerguide/server-authentication.html"""


def amazon_roots(source: Path | None = None) -> bytes:
    """PEM of the roots. Raises EnvironmentFault where the list (certifi's) has not exactly these certificates."""
    path = source or Path(certifi.where())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some old roots of others have serial numbers that are no numbers
        listed = x509.load_pem_x509_certificates(path.read_bytes())
    found = {certificate.fingerprint(hashes.SHA256()).hex(): certificate for certificate in listed}
    missing = [name for name, fingerprint in ROOTS.items() if fingerprint not in found]
    if missing:
        raise EnvironmentFault(f"{path} does not have {' and '.join(missing)}", hint="install certifi anew: make setup")
    return b"".join(found[each].public_bytes(serialization.Encoding.PEM) for each in ROOTS.values())
