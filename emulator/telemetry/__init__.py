"""What is remembered of decisions and invocations: the journal and the metrics."""
