"""Where instances are kept: PostgreSQL. Every statement is in `queries/NAME.sql`, every change in `migrations/`."""
