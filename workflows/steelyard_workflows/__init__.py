"""The training side: workflows, Ray Train, evidence, compression, registration."""
