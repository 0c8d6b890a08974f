"""SQL on SQLite (WAL) and PostgreSQL: tables, migrations and one store a subject."""
