"""``zipml board`` and ``zipml devices``: the emulated board served; what one can train on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zipml_pynq.command_line.group import zipml
from zipml_pynq.command_line.options import FILE
from zipml_pynq.command_line.output import (
    report,
)
from zipml_pynq.constants import WORD_BITS
from zipml_pynq.errors import ArgumentError, ZipmlError

#: pynq's own; importing it takes pynq.
_PYNQ_PORT = 7967


@zipml.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=_PYNQ_PORT,
    show_default=True,
    help="pynq asks at the default; 0 takes any free one.",
)
@click.option(
    "--token-file",
    type=FILE,
    help="Holds what clients have to show; needed for a --host that other machines reach.",
)
@click.option("--tls-key", type=FILE, help="Encrypt connections: the private key, PEM.")
@click.option("--tls-certificate", type=FILE, help="And its certificate, PEM.")
@click.option("--clients", type=int, default=4, show_default=True, help="At a time.")
@click.option(
    "--memory-mib",
    type=int,
    default=128,
    show_default=True,
    help="Contiguous memory of each client's board.",
)
@click.option("--engine", type=click.Choice(["engine", "kernel"]), default="engine")
@click.option("--clock-mhz", type=float, help="Let runs last as long as at this clock.")
@click.option("--verbose", is_flag=True, help="Tell who connects.")
def board(
    host: str,
    port: int,
    token_file: str | None,
    tls_key: str | None,
    tls_certificate: str | None,
    clients: int,
    memory_mib: int,
    engine: str,
    clock_mhz: float | None,
    verbose: bool,
) -> None:
    """Serve the emulated board to pynq (PYNQ_REMOTE_DEVICES=127.0.0.1), until it is interrupted."""
    import logging

    from zipml_pynq.devices.served.server import serve

    if (tls_key is None) != (tls_certificate is None):
        raise ArgumentError("--tls-key and --tls-certificate go together; only one was given")
    credentials = None
    if tls_key is not None and tls_certificate is not None:
        import grpc

        pair = _content("--tls-key", tls_key), _content("--tls-certificate", tls_certificate)
        credentials = grpc.ssl_server_credentials([pair])
    token = None
    if token_file is not None:
        token = _content("--token-file", token_file).decode("ascii", "replace").strip()
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(message)s")
    serve(
        host,
        port,
        token=token,
        credentials=credentials,
        clients=clients,
        memory_bytes=memory_mib << 20,
        engine=engine,
        clock_mhz=clock_mhz,
    )


def _content(option: str, path: str) -> bytes:
    """What a file holds that an option names."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        why = f"{option} was '{path}', which cannot be read: {error.strerror}"
        raise ArgumentError(why) from error


@zipml.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def devices(as_json: bool) -> None:
    """List what --device takes, and the devices that pynq finds here."""
    from zipml_pynq.accelerator.interface import VLNV
    from zipml_pynq.accelerator.machine import machine
    from zipml_pynq.devices import bitstreams

    missing = "finds no device here"
    boards: list[dict[str, Any]] = []
    for name, target in bitstreams.TARGETS.items():
        boards.append(
            {
                "device": name,
                "board": target.board.name,
                "word_bits": target.board.word_bits,
                "clock_mhz": target.board.clock / 1e6,
                "built": [kind for kind in VLNV if bitstreams.at_hand(name, kind)],
            }
        )
    found: list[str] = []
    try:
        from zipml_pynq.accelerator.needs_pynq import pynq

        found += [f"{type(device).__name__} {device.name}" for device in pynq.Device.devices]
    except ImportError as error:
        if error.name != "pynq":
            raise
        missing = "is not installed here"
    except Exception as error:  # a board in the network that does not answer, for one
        raise ZipmlError(f"pynq cannot list its devices: {error}") from error
    emulated: dict[str, Any] = {
        "device": "emulated",
        "word_bits": list(WORD_BITS),
        "loops": machine()["loops"],
    }
    if as_json:
        report({"emulated": emulated, "boards": boards, "pynq": found}, True)
        return
    words = "/".join(map(str, WORD_BITS))
    click.echo(f"emulated   words of {words} bits, {emulated['loops']} loops")
    for entry in boards:
        built = ", ".join(entry["built"]) or "none"
        click.echo(
            f"{entry['device']:9}  {entry['board']}, words of {entry['word_bits']} bits, "
            f"{entry['clock_mhz']:g} MHz; bitstreams: {built}"
        )
    click.echo(f"pynq       {', '.join(found) or missing}")
