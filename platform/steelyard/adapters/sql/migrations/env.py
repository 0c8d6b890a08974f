"""Alembic's entry: runs the migrations on the engine that ``database.migrate`` hands over."""

from alembic import context

from steelyard.adapters.sql.database import VERSION_TABLE
from steelyard.adapters.sql.schema import SCHEMA

engine = context.config.attributes["engine"]
with engine.begin() as connection:
    context.configure(connection=connection, target_metadata=SCHEMA, version_table=VERSION_TABLE)
    with context.begin_transaction():
        context.run_migrations()
