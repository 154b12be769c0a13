"""Reads files at URLs through fsspec. A redirect cannot lead a download into a private network."""

import errno
import io
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from loop.core.errors import LoopError

if TYPE_CHECKING:
    import aiohttp

MOST = 8 * 2**30  # bytes of a file fetched over HTTP, after decompression
SECONDS = 3600.0  # for all of a file
SILENCE = 60.0  # seconds without a byte, or without a connection
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # holds IPv4 addresses in its last 32 bits


def by_proxy(url: str) -> bool:
    """Whether a request to a URL may go through the proxy that the environment names.

    Plain HTTP is used only within this machine or cluster, where a proxy to the internet reaches no server.
    """
    return not url.startswith("http://")


def filesystem(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path there, as fsspec.core.url_to_fs returns them.

    Over HTTP, redirects are followed to public addresses only, and never from https to http.
    """
    import fsspec

    ours = [part for part in url.split("::") if part.startswith(("http://", "https://"))]
    if not ours:
        return fsspec.core.url_to_fs(url)  # type: ignore[no-any-return]
    options = {"get_client": _Guard(ours[-1]).client, "skip_instance_cache": True}
    return fsspec.core.url_to_fs(url, **{urlsplit(ours[-1]).scheme: options})  # type: ignore[no-any-return]


def is_data(below: str) -> bool:
    """Whether a path below a data set's folder is data: no mark of Spark's, and not half written."""
    return not any(part.startswith(("_", ".")) for part in below.split("/"))


@contextmanager
def reaching(place: str) -> Iterator[None]:
    """Name the place that cannot be read."""
    try:
        yield
    except LoopError:
        raise
    except Exception as error:  # every file system raises errors of its own
        said = f"{type(error).__name__}: {error}"
        raise LoopError(f"{place}: cannot be read: {said}", fix="check the place and access to it") from error


def fetch(url: str, to: Path) -> None:
    """Copy a file at a URL to `to`. LoopError where over HTTP it is larger than MOST."""
    system, path = filesystem(url)
    if path.startswith(("http://", "https://")):
        with _Bounded(url, to) as file:
            system.get_file(path, file)
    else:
        system.get_file(path, str(to))


class _Bounded(io.BufferedWriter):
    """A file that holds at most MOST bytes, whatever length the server announced."""

    def __init__(self, url: str, path: Path) -> None:
        super().__init__(io.FileIO(path, "w"))
        self.url, self.written = url, 0

    def write(self, content: Any) -> int:
        self.written += len(content)
        if self.written > MOST:
            raise LoopError(
                f"{self.url}: sends more than {MOST:,} bytes, the most that a source may have",
                fix="see what it sends; if that is right, copy it to S3 or to a disk and name it there",
            )
        return super().write(content)


class _Guard:
    """Opens the connections of one URL's download, and checks each address before it connects.

    The URL's own host may be an in-house server with a private address. The server chooses where it redirects
    to, so those addresses must be public.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host, self.encrypted, self.named = parts.hostname, parts.scheme == "https", True

    async def client(self, **given: Any) -> "aiohttp.ClientSession":
        """The session that fsspec asks for."""
        import aiohttp

        limits = aiohttp.ClientTimeout(total=SECONDS, sock_connect=SILENCE, sock_read=SILENCE)
        ours = {"connector": aiohttp.TCPConnector(socket_factory=self._socket), "middlewares": (self._look,)}
        return aiohttp.ClientSession(**{"timeout": limits, **given, **ours})

    async def _look(
        self,
        request: "aiohttp.ClientRequest",
        send: "Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]]",
    ) -> "aiohttp.ClientResponse":
        """Runs before every request, and so before each redirect is followed."""
        if self.encrypted and request.url.scheme != "https":
            raise LoopError(
                f"https://{self.host}: redirects to {request.url}, which is not encrypted",
                fix="name a URL in params.yaml that stays with https",
            )
        self.named = request.url.host == self.host
        return await send(request)

    def _socket(self, address: Any) -> socket.socket:
        """The socket for one resolved address. This very address is connected to, so DNS cannot change it."""
        family, kind, protocol, _, place = address
        if not self._may_reach(str(place[0])):
            said = f"{place[0]} is not a public address; name its host in params.yaml if it is meant"
            raise PermissionError(errno.EACCES, said)
        opened = socket.socket(family, kind, protocol)
        opened.setblocking(False)
        return opened

    def _may_reach(self, place: str) -> bool:
        address = _inner(ipaddress.ip_address(place.partition("%")[0]))
        if not self.named:
            return address.is_global and not address.is_multicast
        own = address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
        return not own or self.host in {"localhost", place}


def _inner(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address that an IPv6 address stands for, if it stands for one."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address
