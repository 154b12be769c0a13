"""Reads files at URLs through fsspec. Redirects into private networks are blocked."""

import errno
import ipaddress
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from loop.core.errors import LoopError
from loop.core.text import one_line

if TYPE_CHECKING:
    import aiohttp

MOST = 8 * 2**30  # maximum bytes of a file fetched over HTTP, after decompression
SECONDS = 3600.0  # time limit in seconds for downloading a file
SILENCE = 60.0  # time limit in seconds for connecting, and for each wait for data
# IPv6 addresses that contain an IPv4 address in their last 32 bits
NAT64 = ipaddress.ip_network("64:ff9b::/96")


def by_proxy(url: str) -> bool:
    """Whether a request to this URL may go through the proxy that the environment names.

    Plain HTTP is used only inside this machine or cluster, which an internet proxy cannot reach.
    """
    return not url.startswith("http://")


@cache
def certificates() -> ssl.SSLContext:
    """Return this machine's TLS certificates, loaded once: loading takes longer than most calls."""
    import httpx

    return httpx.create_ssl_context()


def filesystem(url: str) -> tuple[Any, str]:
    """Return the fsspec file system for a URL and the path in it, as fsspec.core.url_to_fs does.

    Over HTTP, redirects are followed to public addresses only, and never from https to http.
    """
    import fsspec

    ours = [part for part in url.split("::") if part.startswith(("http://", "https://"))]
    if not ours:
        return fsspec.core.url_to_fs(url)  # type: ignore[no-any-return]
    options = {"get_client": _Guard(ours[-1]).client, "skip_instance_cache": True}
    return fsspec.core.url_to_fs(url, **{urlsplit(ours[-1]).scheme: options})  # type: ignore[no-any-return]


def is_data(below: str) -> bool:
    """Whether a path below a data set's folder is data, and not one of Spark's markers or temporary files."""
    return not any(part.startswith(("_", ".")) for part in below.split("/"))


@contextmanager
def reaching(place: str, faults: Sequence[tuple[str, str, str]] = ()) -> Iterator[None]:
    """Turn any error inside the block into a LoopError that names the place which could not be read.

    `faults` are known errors: a pattern of the error's text, what is wrong, which may name the pattern's
    groups as in a re template, and the fix.
    """
    try:
        yield
    except LoopError:
        raise
    except Exception as error:  # each fsspec file system raises its own kinds of errors
        said = one_line(f"{type(error).__name__}: {error}")
        for pattern, what, fix in faults:
            if found := re.search(pattern, said):
                raise LoopError(f"{place}: {found.expand(what)}", fix=fix) from error
        fix = "check the place, its format and your access to it"
        raise LoopError(f"{place}: cannot be read: {said}", fix=fix) from error


def fetch(url: str, to: Path) -> None:
    """Copy the file at a URL to a path. Raises LoopError if a file over HTTP has more than MOST bytes."""
    from fsspec.callbacks import Callback

    def limit(_size: int | None, written: int) -> None:
        # these bytes are counted as they arrive, because a server may announce any length
        if written > MOST and path.startswith(("http://", "https://")):
            raise LoopError(
                f"{url}: sends more than {MOST:,} bytes, the limit for a source",
                fix="check what the URL returns; if it is right, copy it to S3 or a disk, and read it there",
            )

    system, path = filesystem(url)
    system.get_file(path, str(to), callback=Callback(hooks={"limit": limit}))


class _Guard:
    """Opens the connections for downloading one URL, and checks each address before connecting.

    The URL's own host may have a private address, because it may be an in-house server. The hosts of
    redirects must have public addresses, because the server chooses them.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host, self.encrypted, self.named = parts.hostname, parts.scheme == "https", True

    async def client(self, **given: Any) -> "aiohttp.ClientSession":
        """Return an aiohttp session with these checks, for fsspec."""
        import aiohttp

        limits = aiohttp.ClientTimeout(total=SECONDS, sock_connect=SILENCE, sock_read=SILENCE)
        ours = {"connector": aiohttp.TCPConnector(socket_factory=self._socket), "middlewares": (self._look,)}
        return aiohttp.ClientSession(**{"timeout": limits, **given, **ours})

    async def _look(
        self,
        request: "aiohttp.ClientRequest",
        send: "Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]]",
    ) -> "aiohttp.ClientResponse":
        """Check the URL of each request. Raises LoopError if a redirect leads from https to http."""
        if self.encrypted and request.url.scheme != "https":
            raise LoopError(
                f"https://{self.host}: redirects to {request.url}, which is not encrypted",
                fix="write a URL into params.yaml that does not redirect to http",
            )
        self.named = request.url.host == self.host
        return await send(request)

    def _socket(self, address: Any) -> socket.socket:
        """Return a socket for one resolved address. Raises PermissionError if the address is not allowed.

        The connection goes to this very address, so a second DNS answer cannot change it.
        """
        family, kind, protocol, _, place = address
        if not self._may_reach(str(place[0])):
            said = f"{place[0]} is not a public address; if it is intended, write its host into params.yaml"
            raise PermissionError(errno.EACCES, said)
        opened = socket.socket(family, kind, protocol)
        opened.setblocking(False)
        return opened

    def _may_reach(self, place: str) -> bool:
        address = ipaddress.ip_address(place.partition("%")[0])
        # the IPv4 address that an IPv6 address contains decides
        if address in NAT64:
            address = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        for form in ("ipv4_mapped", "sixtofour"):
            address = getattr(address, form, None) or address
        if not self.named:
            return address.is_global and not address.is_multicast
        own = address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
        return not own or self.host in {"localhost", place}
