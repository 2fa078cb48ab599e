"""The status page and the HTTP API: from a request and what a daemon knows to an answer. Pure; sockets are others'."""
