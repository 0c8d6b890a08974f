"""What a run measured and who pays: the facts for the ledger, and the run's journal."""
