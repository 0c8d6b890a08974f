"""The protocols that clients speak, as pure functions: bytes in, arrays out, and back."""
