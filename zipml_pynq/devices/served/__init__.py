"""The emulated board behind a wire: a client's board, its services, the server."""
