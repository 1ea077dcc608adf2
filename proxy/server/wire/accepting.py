"""The listener: accepts connections, as far as they are this worker's.

asyncio's own server accepts whatever comes, and tells of a connection with TLS only after its handshake. So sockets are accepted here.

A connection that another worker is to accept (`balance` says why) is left to it for a while. Meanwhile its socket is not watched: it would
wake this worker all the time. It is not watched for a moment either when another was faster: of thousands of connections a second, a worker
need not wake for each that it does not get.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import select
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from proxy.server.wire.balance import BEAT_SECONDS, Share

logger = logging.getLogger(__name__)

AGAIN_SECONDS = 0.001  # until a socket is looked at again whose connection was left to others, or taken by another
PATIENCE_SECONDS = 0.05  # for a worker it was left to: some turns of a busy event loop
RETRY_SECONDS = 1.0  # no file descriptor is left: some will be
Take = Callable[[socket.socket, str], None]  # an accepted socket, and the client's address


@contextmanager
def accepting(sockets: Sequence[socket.socket], share: Share, take: Take) -> Iterator[None]:
    """Have those connections taken that come to these sockets, which listen, and are this worker's."""
    listener = Listener(sockets, share, take)
    listener.start()
    try:
        yield
    finally:
        listener.stop()


class Listener:
    """All the sockets that a worker listens on."""

    def __init__(self, sockets: Sequence[socket.socket], share: Share, take: Take) -> None:
        self._share = share
        self._entrances = [Entrance(listening, share, take) for listening in sockets]
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        for entrance in self._entrances:
            entrance.watch()
        self._beat()

    def stop(self) -> None:
        """Accept no more."""
        for entrance in self._entrances:
            entrance.close()
        if self._timer is not None:
            self._timer.cancel()
        self._share.withdraw()

    def _beat(self) -> None:
        if not any(entrance.is_unable for entrance in self._entrances):
            self._share.beat()
        self._timer = asyncio.get_running_loop().call_later(BEAT_SECONDS, self._beat)


class Entrance:
    """One listening socket."""

    def __init__(self, listening: socket.socket, share: Share, take: Take) -> None:
        self._listening = listening
        self._share = share
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._waits = select.poll()
        self._waits.register(listening, select.POLLIN)
        self._left_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.is_unable = False  # to accept, for now

    def watch(self) -> None:
        """Look whenever a connection comes."""
        self._timer, self.is_unable = None, False
        self._loop.add_reader(self._listening, self._look)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._listening.fileno() >= 0:
            self._loop.remove_reader(self._listening)
            self._listening.close()

    def _look(self) -> None:
        """Accept a connection, or leave it to others. If one more waits, the event loop calls again."""
        if self._share.has_fewest:
            self._accept()
        else:
            self._left_at = self._loop.time()
            self._pause(AGAIN_SECONDS, self._look_again)

    def _look_again(self) -> None:
        """Accept a connection that was left to others, if they have had time enough. The next one is left to them anew."""
        if self._share.has_fewest or not self._waits.poll(0):
            self.watch()
        elif self._loop.time() - self._left_at < PATIENCE_SECONDS:
            self._pause(AGAIN_SECONDS, self._look_again)
        else:
            self.watch()
            self._accept()

    def _accept(self) -> None:
        try:
            connection, address = self._listening.accept()
        except BlockingIOError:  # another was faster
            self._pause(AGAIN_SECONDS, self.watch)
        except OSError as error:
            self._failed(error)
        else:
            connection.settimeout(0)
            self._take(connection, str(address[0]))

    def _failed(self, error: OSError) -> None:
        if error.errno == errno.ECONNABORTED:  # that client has gone already
            return
        if error.errno == errno.EINVAL:  # whoever started us has closed the port for all, and is about to stop us
            self.close()
            return
        logger.warning("cannot accept a connection: %s", error.strerror)
        self.is_unable = True
        self._share.withdraw()
        self._pause(RETRY_SECONDS, self.watch)

    def _pause(self, seconds: float, then: Callable[[], None]) -> None:
        self._loop.remove_reader(self._listening)
        self._timer = self._loop.call_later(seconds, then)
