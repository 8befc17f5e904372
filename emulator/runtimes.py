"""What each runtime is: which interpreter runs it, what it finds in /var/runtime."""
