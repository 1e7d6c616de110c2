"""One node: its fork server, its supervisor, its workers' output."""
