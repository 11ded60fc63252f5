"""Processes that train together watch each other: when one ends early, the others end within seconds.

A collective operation would wait for it, for half an hour. So every process has a connection to rank 0, which the
system closes when a process ends, for whatever reason. Until it has, the first process on a machine watches those that
it has started, and they watch it. One process says in one sentence what happened."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener, wait

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.launchers import subprocess_script

from kyara.training.distributed import ERRORS, tell

GRACE = 3.0  # seconds in which rank 0 may meet the error that another rank reports
PATIENCE = 60.0  # seconds that rank 0 may take to end after it has reported an error
DONE, REPORTED = b"done", b"reported"  # messages: all is well; rank 0 reports an error. Any other is an error to report
LONGEST = 2**16  # bytes of a message
LOCAL = ("localhost", "127.0.0.1")
KEEP_ALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}  # a lost machine is noticed after 20 seconds
PARENT = "KYARA_RANK_ZERO"  # environment variable: the process that has started the others on its machine
POLL = 0.2  # seconds between two looks at processes without a connection
DIED = "rank {} of {} has died (was it killed, or short of memory?); the same command resumes from the last snapshot"


@contextlib.contextmanager
def watched(fabric: Fabric) -> Iterator[None]:
    """Launches the ranks and runs its body on each of them. An error that the user can correct is raised on rank 0, or
    if another rank alone met it, written on stderr by rank 0. After it, or the death of a process, every process ends
    with exit status 1."""
    if fabric.world_size == 1:
        fabric.launch()
        yield
        return
    peers = connect(fabric)
    try:
        yield
    except SystemExit:  # rank 0 has failed, and says why
        peers.over.set()
        _end_threads()
        raise
    except KeyboardInterrupt:
        peers.leave("was interrupted")
        raise
    except ERRORS as error:
        peers.leave(str(error))
        _end_threads()
        if fabric.is_global_zero:
            raise
        raise SystemExit(1) from None
    except Exception as error:
        time.sleep(GRACE)  # a collective fails if another process has died; then this one is ended meanwhile
        peers.leave(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
        raise
    peers.finish()
    torch.distributed.destroy_process_group()  # its threads may abort a process that ends while they run


def _end_threads() -> None:
    """Destroys the process group before an error ends this process, for the same reason. NCCL would wait for others."""
    if torch.distributed.is_initialized() and torch.distributed.get_backend() == "gloo":
        torch.distributed.destroy_process_group()


def connect(fabric: Fabric) -> RankZero | Other:
    """Launches the ranks, and connects this one."""
    connected = threading.Event()
    if not torch.distributed.is_torchelastic_launched():  # torchrun has started all processes, and watches them
        parent = int(os.environ.setdefault(PARENT, str(os.getpid())))  # rank 0, which may have ended already
        threading.Thread(target=_guard, args=(fabric, connected, parent), daemon=True).start()
        # Its own watch kills rank 0 too, at times before `_guard` can say why.
        subprocess_script._launch_process_observer = lambda child_processes: None
    try:
        fabric.launch()
        return RankZero(fabric, connected) if fabric.is_global_zero else Other(fabric, connected)
    except (RuntimeError, OSError, EOFError, AuthenticationError) as error:
        time.sleep(GRACE)  # if another process has died, this one is ended meanwhile
        raise OSError(f"the processes cannot connect to each other: {str(error).partition(chr(10))[0]}") from None


def _guard(fabric: Fabric, connected: threading.Event, parent: int) -> None:
    """Ends this process if, before it is `connected`, one dies that it has started or its `parent`, rank 0."""
    while not connected.wait(POLL):
        started = getattr(fabric.strategy.launcher, "procs", [])  # by rank 0
        dead = next((rank for rank, process in enumerate(started, 1) if process.poll() is not None), None)
        orphan = parent not in (os.getpid(), os.getppid())
        if dead is None and not orphan:
            continue
        for process in started:
            process.kill()
        if dead is not None or fabric.local_rank == 1:
            tell(f"kyara train: {DIED.format(dead or 0, fabric.world_size)}")
        os._exit(1)


class RankZero:
    """Rank 0: receives the messages of all other ranks, and sets `connected` when it can do so."""

    def __init__(self, fabric: Fabric, connected: threading.Event) -> None:
        self.connected = connected
        self.world, self.ranks = fabric.world_size, dict[Connection, int]()
        self.over = threading.Event()  # this process ends by itself
        key, host = secrets.token_bytes(32), os.environ["MASTER_ADDR"]
        self.listener = Listener((host if host in LOCAL else "", 0), backlog=self.world, authkey=key)
        fabric.broadcast((self.listener.address[1], key))
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while len(self.ranks) < self.world - 1:
            with contextlib.suppress(AuthenticationError, EOFError, OSError, ValueError):  # not a process of this run
                connection = self.listener.accept()
                keep_alive(connection)
                self.ranks[connection] = int(connection.recv_bytes(LONGEST))
        self.listener.close()
        self.connected.set()
        running = dict(self.ranks)
        while running and not self.over.is_set():
            for ready in wait([*running]):
                assert isinstance(ready, Connection)
                rank = running.pop(ready)
                try:
                    message = ready.recv_bytes(LONGEST)
                except (EOFError, OSError):
                    self._end(DIED.format(rank, self.world), 0)
                else:
                    if message != DONE:
                        self._end(f"rank {rank} of {self.world}: {message.decode(errors='replace')}", GRACE)

    def _end(self, sentence: str, grace: float) -> None:
        """Ends the process, unless it ends by itself. Its main thread may wait in a collective forever."""
        if not self.over.wait(grace):
            self._send(REPORTED)
            tell(f"kyara train: {sentence}")
            os._exit(1)

    def _send(self, message: bytes) -> None:
        for connection in self.ranks:
            with contextlib.suppress(OSError):  # it has ended
                connection.send_bytes(message)

    def leave(self, why: str) -> None:
        """Called before an error is raised."""
        self.over.set()
        self._send(REPORTED)

    def finish(self) -> None:
        """Called when all is done."""
        self.over.set()
        self._send(DONE)


class Other:
    """Any other rank: receives the messages of rank 0, and sets `connected` when it can do so."""

    def __init__(self, fabric: Fabric, connected: threading.Event) -> None:
        self.rank, self.world = fabric.global_rank, fabric.world_size
        self.over = threading.Event()  # this process ends by itself
        self.reported = False  # rank 0 reports an error, and ends
        port, key = fabric.broadcast((0, b""))
        self.connection = Client((os.environ["MASTER_ADDR"], port), authkey=key)
        keep_alive(self.connection)
        self._send(str(self.rank).encode())
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        connected.set()

    def _watch(self) -> None:
        message = self._receive()
        if message == REPORTED:
            self.reported = True
            self._receive()  # until rank 0 has ended: a launcher may kill it when this process ends
        elif not message and self.rank == 1 and not self.over.is_set():
            tell(f"kyara train: {DIED.format(0, self.world)}")
        if message != DONE and not self.over.is_set():
            os._exit(1)

    def _receive(self) -> bytes:
        """A message; empty if the connection is closed."""
        try:
            return self.connection.recv_bytes(LONGEST)
        except (EOFError, OSError):
            return b""

    def _send(self, message: bytes) -> None:
        with contextlib.suppress(OSError):  # rank 0 has ended
            self.connection.send_bytes(message[:LONGEST])

    def leave(self, why: str) -> None:
        """Called before an error is raised. Rank 0 reports it, and ends first."""
        if self.reported:  # this error is that rank 0 is gone: `_watch` ends this process after it
            self.thread.join(PATIENCE)
        self.over.set()
        self._send(why.encode())
        self.thread.join(2 * GRACE)

    def finish(self) -> None:
        """Called when all is done."""
        self.over.set()
        self._send(DONE)


def keep_alive(connection: Connection) -> None:
    """Makes the system notice that a machine at the other end is gone."""
    with socket.socket(fileno=os.dup(connection.fileno())) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEP_ALIVE.items():
            if hasattr(socket, name):  # not on every system
                one.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
