"""The secrets of a cluster's monitoring: passwords, and certificates of an authority of its own.

They are made once, below build/<cluster>/secrets/monitoring/: a password for each person and its bcrypt
hash, the authority's key, a key and a certificate for each node. A password that a person writes into its
file counts from the next deploy on.
"""

from __future__ import annotations

import base64
import ctypes
import re
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from hpcstate.errors import HpcstateError
from hpcstate.files import alone, write_atomically
from hpcstate.model import Cluster, Node
from hpcstate.monitoring.places import AUTHORITY, SCRAPER
from hpcstate.paths import ClusterPaths
from hpcstate.run import run, tail

PASSWORD_BYTES = 18
BCRYPT_COST = 10
"""2^10 rounds: 60 ms a login. The exporters remember who logged in (exporter-toolkit)."""

AUTHORITY_DAYS, NODE_DAYS = 3650, 730
RENEW_DAYS = 90
"""A certificate that ends sooner is replaced by the next deploy; the alert comes later than that."""

_DAY = 86_400
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?", re.S)
_ALPHABET = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
"""The digits of a bcrypt salt (crypt(5))."""


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, both PEM. ``not_after`` is when it ends, in seconds since 1970."""

    certificate: str
    key: str
    not_after: int


@dataclass(frozen=True)
class Credentials:
    """Hashes of passwords by name (people's and SCRAPER's), SCRAPER's password, the authority's certificate,
    and that of each node by its name; that of Grafana's ``admin``, empty without it. ``ends`` is when other
    certificates end that nodes trust, by their files, in seconds since 1970: the authority's own, and that of
    the directory, which is the site's."""

    hashes: Mapping[str, str]
    scrape_password: str
    authority: str
    nodes: Mapping[str, Certificate]
    grafana_password: str = ""
    ends: Mapping[str, int] = field(default_factory=dict)


def ensure(cluster: Cluster) -> Credentials:
    """All of them; what is missing, or ends soon, is made. Raises HpcstateError for what cannot be used."""
    folder = ClusterPaths.of(cluster.name).monitoring
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    with alone(folder):
        passwords = {name: _password(folder / name) for name in (*cluster.monitoring.users, SCRAPER)}
        hashes = {name: _hash(folder / f"{name}.bcrypt", text) for name, text in passwords.items()}
        authority = _authority(folder, cluster.name)
        nodes = {node.name: _of_node(folder, node) for node in cluster.nodes}
        # No name of a person has a dot.
        grafana = _password(folder / "grafana.admin") if cluster.monitoring.grafana else ""
    ends = {AUTHORITY: first_end(authority)}
    if cluster.directory and cluster.directory.ca_file:
        ends[str(cluster.directory.ca_file)] = first_end(_text(cluster.directory.ca_file))
    known = {file: end for file, end in ends.items() if end is not None}
    return Credentials(hashes, passwords[SCRAPER], authority, nodes, grafana, known)


def first_end(text: str) -> int | None:
    """When the first of the certificates in ``text`` ends, in seconds since 1970. One that has ended already
    counts where no other is left: a bundle keeps the old one beside the new. None without a certificate."""
    found = [_not_after(block) for block in _PEM.findall(text)]
    ends = [end for end in found if end is not None]
    left = [end for end in ends if end > datetime.now(UTC).timestamp()]
    return min(left) if left else max(ends, default=None)


def _text(path: Path) -> str:
    """What is in a file of the site's; nothing where it cannot be read, which another step says."""
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _password(path: Path) -> str:
    if not path.exists():
        text = base64.urlsafe_b64encode(secrets.token_bytes(PASSWORD_BYTES)).decode()
        write_atomically(path, f"{text}\n", mode=0o600)
    path.chmod(0o600)
    text = path.read_text(encoding="utf-8").partition("\n")[0]
    if not text or len(text.encode()) > 72:
        raise HpcstateError(
            "the first line of this file is no password of 1 to 72 bytes, as bcrypt takes them",
            where=str(path),
            hint="write one, or remove the file: a new one is made",
        )
    return text


def _hash(path: Path, password: str) -> str:
    """The bcrypt hash of ``password`` that lies in ``path``; another one's is replaced. It stays the same, so
    that a deploy that has nothing to do writes nothing."""
    if path.exists():
        kept = path.read_text(encoding="utf-8").strip()
        if kept and bcrypt(password, kept) == kept:
            return kept
    salt = "".join(secrets.choice(_ALPHABET) for _ in range(21)) + secrets.choice(".Oeu")
    made = bcrypt(password, f"$2b${BCRYPT_COST:02}${salt}")
    write_atomically(path, f"{made}\n", mode=0o600)
    return made


def bcrypt(password: str, setting: str) -> str:
    """The hash of ``password`` by ``setting``: a salt, or a hash. By crypt(3) of this machine (libxcrypt),
    since Python's own module is gone from 3.13. Raises HpcstateError where it knows no bcrypt."""
    try:
        library = ctypes.CDLL("libcrypt.so.1")
        library.crypt.restype = ctypes.c_char_p
        made = library.crypt(password.encode(), setting.encode())
    except (OSError, AttributeError) as error:
        raise HpcstateError("this machine has no libcrypt", hint="`apt-get install libcrypt1`") from error
    if not made or made.startswith(b"*"):
        raise HpcstateError("libcrypt of this machine knows no bcrypt", hint="`apt-get install libcrypt1`")
    return str(made.decode())


def _authority(folder: Path, cluster: str) -> str:
    key, certificate = folder / "ca.key", folder / "ca.crt"
    if not key.exists() or not certificate.exists() or _ends(certificate, ()) is None:
        _make(
            key,
            certificate,
            *("-x509", "-days", AUTHORITY_DAYS, "-subj", f"/CN=hpcstate {cluster}"),
            *("-addext", "basicConstraints=critical,CA:TRUE,pathlen:0"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        )
    return certificate.read_text(encoding="ascii")


def _of_node(folder: Path, node: Node) -> Certificate:
    key, certificate = folder / f"node.{node.name}.key", folder / f"node.{node.name}.crt"
    authority = folder / "ca.crt"
    names = (("-checkhost", node.name), ("-checkip", str(node.address)))
    signed = (
        run(["openssl", "verify", "-CAfile", authority, certificate], check=False).code == 0
        if key.exists() and certificate.exists()
        else False
    )
    ends = _ends(certificate, names) if signed else None
    if ends is None:
        _make(
            key,
            certificate,
            *("-x509", "-CA", authority, "-CAkey", folder / "ca.key", "-days", NODE_DAYS),
            *("-subj", f"/CN={node.name}", "-addext", f"subjectAltName=DNS:{node.name},IP:{node.address}"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
            *("-addext", "extendedKeyUsage=serverAuth,clientAuth"),
        )
        ends = _ends(certificate, names)
    if ends is None:
        raise HpcstateError("openssl made a certificate that it does not take itself", where=str(certificate))
    key.chmod(0o600)
    return Certificate(certificate.read_text(encoding="ascii"), key.read_text(encoding="ascii"), ends)


def _make(key: Path, certificate: Path, *words: object) -> None:
    """A key and its certificate, made aside. The key gets its name first: no certificate is without one."""
    with tempfile.TemporaryDirectory(dir=key.parent, prefix=".new.") as name:
        new_key, new_certificate = Path(name) / "key", Path(name) / "crt"
        done = run(
            ["openssl", "req", *_KEY, "-keyout", new_key, "-out", new_certificate, *map(str, words)],
            check=False,
        )
        if done.code != 0:
            raise HpcstateError(f"openssl makes no certificate: {tail(done.stderr, 2)}", where=str(key))
        new_key.chmod(0o600)
        new_key.replace(key)
        new_certificate.replace(certificate)


def _ends(certificate: Path, names: tuple[tuple[str, str], ...]) -> int | None:
    """When ``certificate`` ends, in seconds since 1970; None where it is none, is not of these ``names``
    (options of openssl-x509(1) and their values), or ends within RENEW_DAYS."""
    words = [word for pair in names for word in pair]
    done = run(["openssl", "x509", "-in", certificate, "-noout", "-enddate", *words], check=False)
    end = _end_in(done.stdout)
    if done.code != 0 or end is None or done.stdout.count("does match certificate") != len(names):
        return None
    return end if end - datetime.now(UTC).timestamp() > RENEW_DAYS * _DAY else None


def _not_after(certificate: str) -> int | None:
    """When ``certificate``, in PEM, ends; None for what openssl does not read."""
    done = run(["openssl", "x509", "-noout", "-enddate"], stdin=certificate, check=False)
    return _end_in(done.stdout) if done.code == 0 else None


def _end_in(said: str) -> int | None:
    """The time of ``notAfter=Nov 28 16:47:27 2028 GMT``, in seconds since 1970."""
    found = re.search(r"notAfter=(.+)", said)
    if found is None:
        return None
    when = datetime.strptime(found[1].strip(), "%b %d %H:%M:%S %Y %Z").replace(tzinfo=UTC)
    return int(when.timestamp())
