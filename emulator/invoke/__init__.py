"""From a request to an outcome: which version is meant, and who runs it."""
