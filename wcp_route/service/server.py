"""One process that listens: opens the Hall, reloads on SIGHUP or a changed file, and stops without losing an answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
import stat
import threading
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

from wcp_attest.base.errors import ConfigError, Error
from wcp_attest.disk.files import read_bounded
from wcp_route.service.context import Context
from wcp_route.service.decider import Decider
from wcp_route.service.metrics import Metrics
from wcp_route.service.pair_store import PairStore
from wcp_route.service.principals import Authenticator
from wcp_route.service.settings import UNIX
from wcp_route.storage.ban_reports import LedgerBanReports

if TYPE_CHECKING:
    from collections.abc import Callable

    from wcp_attest import Policy
    from wcp_route.config import HallConfig
    from wcp_route.hall import Hall
    from wcp_route.rules.rules import RuleSet
    from wcp_route.service.settings import ServiceModel
    from wcp_route.storage.state import State

WATCH_SECONDS: Final = 2.0
FIXED: Final = ("listen", "tls", "oidc", "concurrent", "connections", "head_seconds", "grace_seconds", "threads")
MAX_WATCHED: Final = 16 << 20
_log = logging.getLogger("wcp_route.service")


class Reloaded(NamedTuple):
    """What was read again: rules, trust policy, the settings of the Hall and those of the service."""

    rules: RuleSet
    trust: Policy | None
    config: HallConfig
    service: ServiceModel


@dataclass(frozen=True, slots=True)
class Sources:
    """Where rules, trust policy and settings come from.

    Attributes:
        reload: reads all again; raises ConfigError when they cannot be used.
        watched: files whose change is a reload.
    """

    reload: Callable[[], Reloaded]
    watched: tuple[str, ...]


class Server:
    """A Hall that listens.

    Args:
        hall: decides.
        state: what it remembers.
        address: of the state.
        service: the `[service]` table.
        trust: the trust policy in force.
        sources: where rules, trust policy and settings come from; None for a Hall that is never reloaded.
        pairs: the directory of the registry's pairs.
        secret: makes grants; shared by the Halls of one database.

    Attributes:
        context: what the handlers share.
        app: the ASGI application.
        port: where it listens, once it does; 0 with a Unix socket.
        stop: stops as SIGTERM does, from any thread.
    """

    def __init__(  # one for each piece that a service is made of
        self,
        hall: Hall,
        state: State,
        address: str,
        service: ServiceModel,
        *,
        trust: Policy | None,
        sources: Sources | None = None,
        pairs: str,
        secret: bytes | None = None,
    ) -> None:
        from wcp_route.service.application import application

        self.context = Context(
            hall=hall, state=state, settings=service, authenticator=Authenticator(service), metrics=Metrics(),
            trust=trust, secret=secret or secrets.token_bytes(32), address=address, pairs=PairStore(pairs),
            reports=LedgerBanReports(state.ledger), decider=Decider(hall, service.threads),
        )  # fmt: skip
        self.app = application(self.context)
        self._reload = None if sources is None else sources.reload
        self._watched = () if sources is None else sources.watched
        self._stamp = self._digest()
        self.port = 0
        self.stop: Callable[[], object] = lambda: None  # until it runs

    def listen(self) -> socket.socket:
        """Bind the address.

        Raises:
            ConfigError: it cannot be bound.
        """
        service = self.context.settings
        if service.tls is not None:
            import ssl

            try:
                ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
                    service.tls.certificate, service.tls.key
                )
            except OSError as problem:  # an SSLError is one
                raise ConfigError(
                    f"[service.tls] cannot use {service.tls.certificate!r} with {service.tls.key!r}: "
                    f"{problem.strerror or problem}"
                ) from None
        try:
            if service.listen.startswith(UNIX):
                found = _unix_socket(service.listen.removeprefix(UNIX))
            else:
                host, port = service.address
                family = socket.AF_INET6 if ":" in host else socket.AF_INET
                # asyncio sets TCP_NODELAY only where the protocol is named; without it each answer waits 40 ms.
                found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
                found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                found.bind((host, port))
                self.port = found.getsockname()[1]
                self.app.hosts.update(f"{name}:{self.port}" for name in (service.host, "localhost", "127.0.0.1"))
        except OSError as problem:
            why = (problem.strerror or str(problem)).lower()
            raise ConfigError(f"cannot listen on {service.listen}: {why}") from None
        found.listen(1024)
        return found

    def run(self, found: socket.socket, started: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGTERM or SIGINT; finish what was begun, for as long as the grace lasts.

        Args:
            found: from `listen`.
            started: called when requests are answered.
        """
        asyncio.run(self._serve(found, started))

    async def _serve(self, found: socket.socket, started: Callable[[], None]) -> None:
        from concurrent.futures import ThreadPoolExecutor

        import anyio.to_thread
        import uvicorn

        from wcp_route.service.connections import bounded_protocol

        service = self.context.settings
        config = uvicorn.Config(
            self.app, lifespan="off", log_config=None, access_log=False, server_header=False, proxy_headers=False,
            h11_max_incomplete_event_size=64 << 10, timeout_keep_alive=5, limit_concurrency=None,
            timeout_graceful_shutdown=max(1, round(service.grace_seconds)), http=bounded_protocol(service), ws="none",
            ssl_certfile=None if service.tls is None else service.tls.certificate,
            ssl_keyfile=None if service.tls is None else service.tls.key,
        )  # fmt: skip
        server = uvicorn.Server(config)
        loop, stopping, again = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        self.stop = lambda: loop.call_soon_threadsafe(stopping.set)
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, stopping.set)
            loop.add_signal_handler(signal.SIGHUP, again.set)
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # older versions
        with contextlib.ExitStack() as stack:
            # Blocking work of the loop and of the framework shares these threads.
            loop.set_default_executor(stack.enter_context(ThreadPoolExecutor(service.threads, "wcp-service")))
            anyio.to_thread.current_default_thread_limiter().total_tokens = service.threads
            stack.enter_context(self.context.decider.running())
            if (oidc := self.context.authenticator.oidc) is not None:
                stack.enter_context(oidc.keep_fresh())
            serving = asyncio.ensure_future(server._serve(sockets=[found]))  # noqa: SLF001  # without its signal handlers
            watching = asyncio.ensure_future(self._watch(again))
            while not server.started and not serving.done():  # noqa: ASYNC110  # the library offers no event
                await asyncio.sleep(0.01)
            started()
            await asyncio.wait({serving, asyncio.ensure_future(stopping.wait())}, return_when=asyncio.FIRST_COMPLETED)
            self.app.draining = True
            watching.cancel()
            server.should_exit = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(serving, service.grace_seconds + 2)
            self.stop = lambda: None

    async def _watch(self, again: asyncio.Event) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(again.wait(), WATCH_SECONDS)
            stamp = await asyncio.to_thread(self._digest)
            if again.is_set() or stamp != self._stamp:
                self._stamp = stamp
                again.clear()
                await asyncio.to_thread(self.reload)

    def reload(self) -> None:
        """Read rules, policy and settings whole, check them, then put them in force; a bad file keeps all old ones."""
        if self._reload is None:
            return
        before = self.context.settings
        try:
            found = self._reload()
            fixed = [name for name in FIXED if getattr(found.service, name) != getattr(before, name)]
            if fixed:
                what = f"[service] {', '.join(fixed)}"
                raise ConfigError(f"{what} cannot change while the service runs; start it again")
            self.context.hall.swap(rules=found.rules, trust_policy=found.trust, config=found.config)
        except Error as problem:
            self.context.problems["reload"] = f"the files changed and cannot be used: {str(problem)[:300]}"
            self.context.metrics.reloads.labels("refused").inc()
            _log.error("reload refused, the earlier rules, policy and settings stay in force: %s", problem)
            return
        if found.trust is not None:
            self.context.trust = found.trust
        if found.service != before:
            authenticator = Authenticator(found.service)
            authenticator.oidc = self.context.authenticator.oidc  # its settings are the same, and it has the keys
            self.context.authenticator = authenticator
            self.context.settings = self.app.service = found.service
            self.context.sessions.end_all()
        self.context.problems.pop("reload", None)
        self.context.metrics.reloads.labels("done").inc()
        _log.info("reload done")

    def _digest(self) -> bytes:
        found = sha256()
        for path in self._watched:
            try:
                found.update(sha256(read_bounded(path, limit=MAX_WATCHED, what="the file", follow=True)).digest())
            except Error:  # the reload says what is wrong with it
                found.update(b"unreadable")
        return found.digest()


def _unix_socket(path: str) -> socket.socket:
    """Bind a socket that its owner and group can connect to."""
    with contextlib.suppress(FileNotFoundError), socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(1)
        try:
            asking.connect(path)
        except ConnectionRefusedError:  # of a service that was killed; anything else is not ours and stays
            if stat.S_ISSOCK(os.lstat(path).st_mode):
                os.unlink(path)
    found = socket.socket(socket.AF_UNIX)
    before = os.umask(0o117)
    try:
        found.bind(path)
    finally:
        os.umask(before)
    return found
