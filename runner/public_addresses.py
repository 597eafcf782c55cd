"""Connections to the internet only, for addresses that a provider names.

A name is resolved once, what comes out is judged, and that very address is connected to: a second
answer of its name server changes nothing. Certificates are those of the name.
"""

import ipaddress
import socket

from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from .bounded_http import TimeoutAdapter

#: Addresses of one name that are tried, each for as long as a connection may take.
MOST_ADDRESSES = 4
#: Where gateways put the addresses of IPv4, as RFC 6052 has it.
NAT64 = ipaddress.ip_network("64:ff9b::/96")
NO_NAME = "The name of a host is none."
NOT_PUBLIC = "The address of a host is none of the internet."


class NotPublicError(ValueError):
    """An address is of this machine, of its network, or of none."""


def is_public(address):
    """Return whether an IP address is one of the internet, also in its forms within IPv6.

    >>> [is_public(ip) for ip in ("1.1.1.1", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1")]
    [True, True, True]
    >>> [is_public(ip) for ip in ("127.0.0.1", "::ffff:127.0.0.1", "2002:7f00:1::", "224.0.0.1")]
    [False, False, False, False]
    """
    ip = ipaddress.ip_address(address)
    if ip.version == 6:
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        ip = inner or ip
    # Python counts these among the global ones.
    is_special = ip.is_multicast or ip.is_reserved or getattr(ip, "is_site_local", False)
    return ip.is_global and not is_special


def resolve(host, port):
    """Return the public IP addresses of a host.

    :raise NotPublicError: if it has no public one
    :raise socket.gaierror: if it has none at all
    """
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise NotPublicError(NO_NAME) from None
    addresses = dict.fromkeys(address[0] for *_kind, address in found)
    if public := [one for one in addresses if is_public(one)]:
        return public[:MOST_ADDRESSES]
    raise NotPublicError(NOT_PUBLIC)


class _PublicConnection:
    """What a connection of urllib3 becomes: `_dns_host` is what it connects to, and no more."""

    def _new_conn(self):
        host = self._dns_host
        try:
            addresses = resolve(host, self.port)
        except socket.gaierror as error:
            raise NewConnectionError(self, f"The host is not known: {error}") from error
        failure = None
        for self._dns_host in addresses:
            try:
                return super()._new_conn()
            except (NewConnectionError, ConnectTimeoutError) as error:
                failure = error
            finally:
                # The certificate has to be that of the name.
                self._dns_host = host
        raise failure


def _pool_class(pool_class):
    connection_class = type("PublicConnection", (_PublicConnection, pool_class.ConnectionCls), {})
    return type("PublicPool", (pool_class,), {"ConnectionCls": connection_class})


class PublicAdapter(TimeoutAdapter):
    """Connects to public addresses only, and never over a proxy, which would resolve the name."""

    POOL_CLASSES = {
        "http": _pool_class(HTTPConnectionPool),
        "https": _pool_class(HTTPSConnectionPool),
    }

    def init_poolmanager(self, *args, **kwargs):
        result = super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self.POOL_CLASSES
        return result

    def send(self, request, proxies=None, **kwargs):
        """Send a request.

        :raise NotPublicError: if its host has no public address
        """
        return super().send(request, proxies=None, **kwargs)
