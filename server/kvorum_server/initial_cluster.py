"""The text that names the nodes of a new cluster, and the addresses in it.

``n1=10.0.0.1:7400,n2=10.0.0.2:7400,n3=10.0.0.3:7400`` is typed once per node, by people, so it is
where clusters are born wrong: two nodes that were given different texts would found two clusters
that take each other for one. The text is therefore parsed strictly, brought into one canonical
form, and the hash of that form travels in the first frame between two nodes and in the birth
certificate of the cluster.

The order of the names is part of the meaning and survives: the first-named node starts the cluster.
White space around names and addresses, and a comma at the end, mean nothing and do not survive.
Names of hosts are not resolved: an address means what it means on the node that dials it.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from kvorum_server.config import ConfigError

HASH_BYTES = 16

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
_HOST = re.compile(r"\[[0-9A-Fa-f:.]+(%\w+)?\]|[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_PORT_MAX = 65_535


@dataclass(frozen=True, slots=True)
class InitialCluster:
    """The nodes of a new cluster, (name, address) each, in the order in which they were named.

    >>> cluster = InitialCluster.parse("n1=10.0.0.1:7400, n2=[::1]:7400,")
    >>> cluster.members
    (('n1', '10.0.0.1:7400'), ('n2', '[::1]:7400'))
    >>> cluster.text, cluster.starter
    ('n1=10.0.0.1:7400,n2=[::1]:7400', 'n1')
    >>> cluster == InitialCluster.parse(cluster.text)
    True
    """

    members: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads ``name=host:port,...``; raises :class:`ConfigError` naming the wrong part."""
        parts = [part.strip() for part in text.split(",")]
        if parts[-1] == "":
            parts.pop()
        if not parts:
            raise ConfigError("it names no node; it must be name=host:port,...")
        members = tuple(_parse_member(part) for part in parts)
        _refuse_duplicates("name", (name for name, _ in members))
        _refuse_duplicates("address", (address for _, address in members))
        return cls(members)

    @property
    def text(self) -> str:
        """The canonical form: equal texts, and only those, found the same cluster."""
        return ",".join(f"{name}={address}" for name, address in self.members)

    @property
    def hash(self) -> bytes:
        """BLAKE2b of the canonical text, 16 bytes."""
        return hashlib.blake2b(self.text.encode(), digest_size=HASH_BYTES).digest()

    @property
    def starter(self) -> str:
        """Name of the node that writes the birth certificate once all others have reported."""
        return self.members[0][0]

    @property
    def addresses(self) -> Mapping[str, str]:
        """Address of each name."""
        return dict(self.members)


def parse_addresses(text: str) -> tuple[str, ...]:
    """The addresses of ``host:port,...``; raises :class:`ConfigError` naming the wrong one.

    >>> parse_addresses("10.0.0.1:7400, 10.0.0.2:7400,")
    ('10.0.0.1:7400', '10.0.0.2:7400')
    """
    addresses = tuple(part.strip() for part in text.split(",") if part.strip())
    for address in addresses:
        split_address(address)
    _refuse_duplicates("address", addresses)
    return addresses


def check_name(name: str) -> None:
    """Raises :class:`ConfigError` unless ``name`` can stand for a node in texts and tables."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} is no name of a node; it must be 1 to 64 letters, digits, dots, dashes and "
            "underscores, with a letter or digit at both ends"
        )


def split_address(address: str) -> tuple[str, int]:
    """Host and port of ``host:port``; raises :class:`ConfigError` when it is something else.

    >>> split_address("localhost:7400"), split_address("[fe80::1]:7400")
    (('localhost', 7400), ('[fe80::1]', 7400))
    """
    host, colon, port = address.rpartition(":")
    if not colon or not _HOST.fullmatch(host):
        raise ConfigError(
            f"{address!r} is no address; it must be host:port (an IPv6 host stands in brackets)"
        )
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= _PORT_MAX):
        raise ConfigError(f"{address!r} is no address; its port must be 1 to {_PORT_MAX}")
    return host, int(port)


def _parse_member(part: str) -> tuple[str, str]:
    name, equals, address = (piece.strip() for piece in part.partition("="))
    if not equals:
        raise ConfigError(f"{part!r} in it must be name=host:port")
    check_name(name)
    split_address(address)
    return name, address


def _refuse_duplicates(kind: str, values: Iterable[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise ConfigError(f"the {kind} {value!r} stands in it twice")
        seen.add(value)
