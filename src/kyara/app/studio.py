"""The verb `kyara studio`: the browser app."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from kyara import verbs
from kyara.files.extras import install_hint

PORT = 8642
ANY = ("0.0.0.0", "::")  # hosts that listen on all addresses
TWICE = "another kyara studio has this project open; open the address that it printed, or stop it first"
LATER = 50  # further ports that are tried if PORT is taken


@dataclasses.dataclass(frozen=True)
class StudioResult(verbs.Result):
    """Result of `studio`, after the server was stopped."""

    out: Path  # the project's folder
    address: str
    dry_run: bool = False

    def __str__(self) -> str:
        return f"would serve {self.out} at {self.address}" if self.dry_run else f"stopped; {self.out} has all results"


@verbs.checked
def studio(
    folder: Positional[Path] = Path(),
    *,
    host: str = "127.0.0.1",
    port: Annotated[int | None, verbs.Range(0, 65535)] = None,
    allow_host: str | None = None,
    browser: bool = True,
    device: verbs.Device = "auto",
    dry_run: verbs.DryRun = False,
) -> StudioResult:
    """Open a page in the browser with everything that the verbs do. Ctrl-C stops it.

    The page is served by this machine for this machine: nothing is sent elsewhere. The address contains a token;
    everyone who has it can read and change the project. Needs the extra `studio`.

    Args:
        folder: The project's folder. Datasets, runs and galleries in it are shown, new ones are written to it. What the
            page keeps for itself is in .studio; uploads that no file of the project names are deleted after a week.
        host: The network address to listen on. Others than 127.0.0.1 let other machines in, unencrypted.
        port: The port; by default 8642, or the next free one. 0 takes any.
        allow_host: Names of this machine that browsers on other machines use, such as atelier.local,192.168.0.7.
        browser: Open the page in the default browser.
    """
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ValueError(f"kyara studio needs FastAPI and uvicorn ({error}); {install_hint('studio')}") from error
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"FOLDER {folder}: is a file; name a folder")
    host, *named = (name.strip().strip("[]") for name in [host, *(allow_host or "").split(",")])
    named = [name for name in named if name]
    listener = _listen(host, port)
    token, number = secrets.token_urlsafe(24), listener.getsockname()[1]
    shown = host if host not in ANY else (named or ["127.0.0.1"])[0]
    address = f"http://{f'[{shown}]' if ':' in shown else shown}:{number}/?token={token}"
    if dry_run:
        listener.close()
        return StudioResult(folder, address, True)
    folder.mkdir(parents=True, exist_ok=True)

    from kyara.app.project import STATE
    from kyara.training.run import locked

    with locked(folder / STATE, TWICE):
        _serve(folder, address, listener, device, token, {*named, host}, browser)
    return StudioResult(folder, address)


def _serve(
    folder: Path, address: str, listener: socket.socket, device: str, token: str, hosts: Collection[str], browser: bool
) -> None:
    import uvicorn

    from kyara.app.server import make_app
    from kyara.training.runtime import pick_device

    app = make_app(folder, token, device=pick_device(device), hosts=hosts)
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2, server_header=False)
    print(f"{folder.resolve()} is at\n\n    {address}\n\nCtrl-C stops it.", file=sys.stderr, flush=True)
    if browser:
        threading.Timer(0.5, webbrowser.open, [address]).start()
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int | None) -> socket.socket:
    """A listening socket. ValueError if the address cannot be used."""
    ports = range(PORT, PORT + LATER) if port is None else [port]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    error: OSError | None = None
    for one in ports:
        try:
            return socket.create_server((host, one), family=family, reuse_port=False)
        except OSError as failed:
            error = failed
    option = f"--port {ports[0]}" if len(ports) == 1 else f"--host {host}"
    raise ValueError(f"{option}: cannot listen there ({error}); choose another")
