"""Where alerts may be sent: no way for who declares a notification into the engine's own network.

Addresses are checked when the connection is made, so that a name that is answered differently the
second time leads nowhere.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult

_UNFIT = re.compile(r"[\x00-\x20\x7f\\]")


class AddressRefused(OSError):
    """A host may not be spoken to. `code` is stable; the message names the setting."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def check_url(url: str, hosts: Collection[str]) -> None:
    """Refuse a URL that alerts may not go to. `hosts` is the setting `notification_hosts`.

    Raises `AddressRefused`; its message holds no more of the URL than the host.
    """
    try:
        parts = urlsplit(url)
        host, _ = (parts.hostname or "").lower(), parts.port
    except ValueError:
        raise AddressRefused("url-refused", "the URL cannot be read") from None
    if parts.scheme not in ("https", "http") or not host or _UNFIT.search(url):
        raise AddressRefused("url-refused", "the URL is not https://host/…")
    if parts.username is not None:
        raise AddressRefused("url-refused", "the URL holds credentials: sign instead")
    if hosts and host not in hosts:
        raise AddressRefused(
            "host-refused", f"{host} is not in the setting notification_hosts, which is not empty"
        )
    if parts.scheme == "http" and host not in hosts:
        raise AddressRefused(
            "host-refused",
            f"http is in the clear: use https, or name {host} in the setting notification_hosts",
        )
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return
    check_address(host, host, hosts)


def check_address(host: str, address: str, hosts: Collection[str]) -> None:
    """Refuse an address that is not public, unless its host is named in `hosts`."""
    if host.lower() not in hosts and not _is_public(address):
        raise AddressRefused(
            "address-refused",
            f"{host} is at an address that is not public; where that is meant, name the host in "
            "the setting notification_hosts",
        )


def _is_public(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        # An IPv4 address in the clothes of an IPv6 one is judged by what it is.
        if ip.ipv4_mapped is not None:
            return _is_public(str(ip.ipv4_mapped))
        if ip.sixtofour is not None or ip.teredo is not None or ip in _NAT64:
            return False
    return ip.is_global and not ip.is_multicast


_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class GuardedResolver(AbstractResolver):
    """Answers with addresses that may be spoken to, or raises `AddressRefused`."""

    def __init__(self, resolver: AbstractResolver, hosts: Collection[str]) -> None:
        self._resolver, self._hosts = resolver, hosts

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        """Resolve a name; one address that is not public is enough to refuse it."""
        found = await self._resolver.resolve(host, port, family)  # type: ignore[arg-type]
        for item in found:
            check_address(host, item["host"], self._hosts)
        return found

    async def close(self) -> None:
        """Close the resolver behind."""
        await self._resolver.close()
