"""The Open Inference Protocol over gRPC: a process of its own that asks the edge."""
