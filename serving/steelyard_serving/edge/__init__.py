"""The edge: our HAProxy, which gives every request an id, a version and a second chance."""
