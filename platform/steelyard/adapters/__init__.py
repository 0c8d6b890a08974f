"""The world: SQL, MLflow, the spool, processes. Only ``bootstrap`` picks from here."""
