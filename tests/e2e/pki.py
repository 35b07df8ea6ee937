"""Certificates, keys and tokens of one control plane: made for it, worth nothing elsewhere."""

import base64
import ipaddress
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ISSUER = "https://kubernetes.default.svc.cluster.local"
# The API server takes a token for this long after it expired, to allow for clocks that differ.
TOKEN_LEEWAY = timedelta(minutes=1)


@dataclass(frozen=True)
class KeyPair:
    """PEM files of a certificate (or public key) and its private key."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority in a folder; the folder's earlier one is used again.

    Files are written with mode 0600, for the keys give every right on the control plane.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self.pair = KeyPair(folder / "ca.crt", folder / "ca.key")
        if not self.pair.key.exists():
            self._create()
        self._key = _load_key(self.pair.key)
        self._certificate = x509.load_pem_x509_certificate(self.pair.certificate.read_bytes())

    def server(self, name: str, dns_names: Sequence[str]) -> KeyPair:
        """Return a certificate for a server on 127.0.0.1, good for its own clients too."""
        alternatives: list[x509.GeneralName] = [x509.DNSName(each) for each in dns_names]
        alternatives += [
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
            # The first address of the service range is the service `kubernetes`.
            x509.IPAddress(ipaddress.ip_address("10.96.0.1")),
        ]
        # etcd's HTTP gateway calls etcd itself with the server's certificate.
        usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        return self._issue(name, (), usage, timedelta(days=365), alternatives)

    def client(
        self, name: str, groups: Sequence[str] = (), lifetime: timedelta = timedelta(days=365)
    ) -> KeyPair:
        """Return a certificate for a user of that name in those groups."""
        return self._issue(name, groups, [ExtendedKeyUsageOID.CLIENT_AUTH], lifetime, [])

    def _create(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "trueup-e2e")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(_usages(certificates=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        _write(self.pair.certificate, certificate.public_bytes(serialization.Encoding.PEM))
        _write(self.pair.key, _private_pem(key))

    def _issue(
        self,
        name: str,
        groups: Sequence[str],
        usage: list[x509.ObjectIdentifier],
        lifetime: timedelta,
        alternatives: list[x509.GeneralName],
    ) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in groups]
        subject.append(x509.NameAttribute(NameOID.COMMON_NAME, name))
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(subject))
            .issuer_name(self._certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
            .add_extension(_usages(certificates=False), critical=True)
        )
        if alternatives:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(alternatives), critical=False
            )
        certificate = builder.sign(self._key, hashes.SHA256())
        stem = name.replace(":", "-").replace("/", "-")
        pair = KeyPair(self._folder / f"{stem}.crt", self._folder / f"{stem}.key")
        _write(pair.certificate, certificate.public_bytes(serialization.Encoding.PEM))
        _write(pair.key, _private_pem(key))
        return pair


class TokenSigner:
    """The key that signs service account tokens, for tokens that the API cannot be asked for.

    TokenRequest gives none that lives for less than ten minutes; a test of expiry needs seconds.
    """

    def __init__(self, folder: Path) -> None:
        self.pair = KeyPair(folder / "service-accounts.pub", folder / "service-accounts.key")
        if not self.pair.key.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            public = key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            _write(self.pair.certificate, public)
            _write(self.pair.key, _private_pem(key))
        self._key = _load_key(self.pair.key)

    def sign(self, namespace: str, name: str, uid: str, lifetime: timedelta) -> str:
        """Return a token of that service account which the API server refuses after `lifetime`.

        The API server remembers a token that it accepted for ten seconds more.
        """
        now = datetime.now(UTC)
        expires = now + lifetime - TOKEN_LEEWAY
        issued = int((min(now, expires) - timedelta(minutes=1)).timestamp())
        claims = {
            "iss": ISSUER,
            "sub": f"system:serviceaccount:{namespace}:{name}",
            "aud": [ISSUER],
            "jti": str(uuid.uuid4()),
            "iat": issued,
            "nbf": issued,
            "exp": int(expires.timestamp()),
            "kubernetes.io": {
                "namespace": namespace,
                "serviceaccount": {"name": name, "uid": uid},
            },
        }
        body = b".".join(_base64url(orjson.dumps(part)) for part in ({"alg": "ES256"}, claims))
        # JWS wants the two numbers side by side, not their ASN.1 sequence.
        r, s = decode_dss_signature(self._key.sign(body, ec.ECDSA(hashes.SHA256())))
        return (body + b"." + _base64url(r.to_bytes(32, "big") + s.to_bytes(32, "big"))).decode()


def _usages(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=certificates,
        crl_sign=certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
