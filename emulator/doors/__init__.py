"""Who may ask for an invocation: HTTP gateway, Lambda API, admin API. They know only the Invoker."""
