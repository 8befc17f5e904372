"""The live driver: carries the pool's orders out on sandboxes, reports back what happened."""
