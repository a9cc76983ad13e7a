"""What tests stand on: a private PostgreSQL, a running server, a browser, client libraries in their own environments."""
