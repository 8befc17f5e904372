"""What hosts an instance: a process tree or a container. See ``protocol``."""
