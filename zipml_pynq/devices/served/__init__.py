"""The emulated board behind a wire: a client's board, its services, the server."""

from zipml_pynq.accelerator import needs_pynq as needs_pynq
