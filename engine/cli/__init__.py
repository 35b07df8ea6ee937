"""The command line: one module a command group, each a client of the HTTP API."""
