"""Why a command that talks to a running emulator got nowhere. Apart, since ``up`` needs no HTTP client."""


class Unreachable(Exception):
    """No emulator answers. The message says what to do."""


class Refused(Exception):
    """The emulator answered, and said no."""
