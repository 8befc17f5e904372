"""faas-emulator: a local FaaS cloud that measures its cold starts.

Layers, top to bottom; a module imports only from layers below its own
(``lint-imports`` checks it):

    cli        the ``faas`` command
    app        builds every object, starts and stops them in order
    config     faas.toml and flags -> frozen settings
    doors      HTTP gateway, AWS Lambda API, admin API
    invoke     request -> version -> invocation -> outcome
    fleet      carries out the pool's orders on real sandboxes
    sandbox | registry | telemetry | http
    runtimes   what an instance finds in /var/runtime
    core       pure decisions: who runs where, who is refused, who is stopped

Start reading at ``core/pool.py``, then ``fleet/fleet.py``.
"""

__version__ = "0.1.0"
