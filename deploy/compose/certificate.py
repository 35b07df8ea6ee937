"""Makes a self-signed certificate for the compose file's engine, once: `certificate.py FOLDER`."""

from __future__ import annotations

import ipaddress
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ENGINE = 65532
"""The user that the image's engine runs as."""
_ANY = "0.0.0.0"  # noqa: S104 - written into a certificate, not bound


def main(folder: Path) -> None:
    """Write `tls.crt` and `tls.key`, unless they are there."""
    if (folder / "tls.crt").exists():
        return
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "trueup")])
    # The engine tells its command line where it listens: 0.0.0.0, inside of the container.
    addresses = [ipaddress.ip_address(text) for text in ("127.0.0.1", _ANY, "::1")]
    names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.DNSName("engine")]
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=825))
        .add_extension(
            x509.SubjectAlternativeName([*names, *map(x509.IPAddress, addresses)]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    _write(
        folder / "tls.key",
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    _write(folder / "tls.crt", certificate.public_bytes(serialization.Encoding.PEM))


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    path.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(path, ENGINE, ENGINE)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
