"""Good and bad configurations, on which the reader and the JSON Schema must agree."""

from __future__ import annotations

FUNCTION = '[functions.f]\nruntime = "python3.11"\nhandler = "app.handler"\ncode = "py"\n'

GOOD = {
    "empty": "",
    "one": FUNCTION,
    "all": """
        [emulator]
        host = "0.0.0.0"
        port = 0
        api_port = 4567
        sandbox = "process"
        home = "state"
        profile = "aws"
        strict = true
        log_format = "json"
        account = "123456789012"
        region = "eu-central-1"
        account_concurrency = 500
        memory_capacity = 2048
        parallel_starts = 4
        cpu_limit = true
        watch = false
        [defaults]
        memory = 256
        keep_alive = 2.5
        environment = { LEVEL = "info", STAGE = "local" }
        [functions.f]
        runtime = "python3.11"
        handler = "app.handler"
        code = "py"
        memory = 512
        timeout = 900
        ephemeral_storage = 1024
        reserved_concurrency = 5
        network = "none"
        include = ["**/*.py"]
        exclude = ["tests/**"]
        requirements = false
        prewarm = 2
        description = "all of it"
        [functions.f.environment]
        LEVEL = "debug"
        [functions.g-2]
        runtime = "nodejs20.x"
        handler = "index.handler"
        code = "js"
        [functions.H_3]
        runtime = "provided.al2023"
        code = "sh"
        [[routes]]
        route = "GET /things/{id}/"
        function = "f"
        [[routes]]
        route = "ANY /files/{proxy+}"
        function = "g-2"
        [[routes]]
        route = "ANY /"
        function = "f"
        [[routes]]
        route = "$default"
        function = "H_3"
    """,
}

BAD = {
    "unknown key at the top": ("function = 1\n", "function"),
    "unknown key of a function": (FUNCTION + "memroy = 128\n", "functions.f.memroy"),
    "unknown key of emulator": ("[emulator]\nprot = 1\n", "emulator.prot"),
    "unknown key of defaults": ("[defaults]\ncode = 'py'\n", "defaults.code"),
    "unknown key of a route": (
        FUNCTION + "[[routes]]\nroute='ANY /'\nfunction='f'\nverb='GET'\n", "routes[0].verb",
    ),
    "memory below": (FUNCTION + "memory = 127\n", "functions.f.memory"),
    "memory above": (FUNCTION + "memory = 10241\n", "functions.f.memory"),
    "memory as text": (FUNCTION + 'memory = "128"\n', "functions.f.memory"),
    "memory as bool": (FUNCTION + "memory = true\n", "functions.f.memory"),
    "memory in parts": (FUNCTION + "memory = 128.5\n", "functions.f.memory"),
    "timeout zero": (FUNCTION + "timeout = 0\n", "functions.f.timeout"),
    "timeout above": (FUNCTION + "timeout = 901\n", "functions.f.timeout"),
    "storage": (FUNCTION + "ephemeral_storage = 511\n", "functions.f.ephemeral_storage"),
    "keep alive": (FUNCTION + "keep_alive = -1\n", "functions.f.keep_alive"),
    "reserved": (FUNCTION + "reserved_concurrency = -1\n", "functions.f.reserved_concurrency"),
    "prewarm": (FUNCTION + "prewarm = -1\n", "functions.f.prewarm"),
    "network": (FUNCTION + 'network = "host"\n', "functions.f.network"),
    "include": (FUNCTION + 'include = "*.py"\n', "functions.f.include"),
    "requirements": (FUNCTION + "requirements = true\n", "functions.f.requirements"),
    "description": (FUNCTION + f'description = "{"x" * 257}"\n', "functions.f.description"),
    "runtime": (FUNCTION.replace("python3.11", "python311"), "functions.f.runtime"),
    "runtime elsewhere": (FUNCTION.replace("python3.11", "java21"), "functions.f.runtime"),
    "handler with space": (FUNCTION.replace("app.handler", "app handler"), "functions.f.handler"),
    "no code": (FUNCTION.replace('code = "py"', ""), "functions.f.code"),
    "name": (FUNCTION.replace("functions.f", 'functions."a b"'), "functions.a b"),
    "variable name": (FUNCTION + "environment = { 1A = 'x' }\n", "functions.f.environment.1A"),
    "variable reserved": (
        FUNCTION + "environment = { AWS_REGION = 'x' }\n", "functions.f.environment.AWS_REGION",
    ),
    "variable number": (FUNCTION + "environment = { PORT = 80 }\n", "functions.f.environment.PORT"),
    "environment": (FUNCTION + "environment = []\n", "functions.f.environment"),
    "port": ("[emulator]\nport = 65536\n", "emulator.port"),
    "sandbox": ('[emulator]\nsandbox = "podman"\n', "emulator.sandbox"),
    "strict": ('[emulator]\nstrict = "yes"\n', "emulator.strict"),
    "account": ("[emulator]\naccount = 123456789012\n", "emulator.account"),
    "region": ('[emulator]\nregion = "here"\n', "emulator.region"),
    "profile": ('[emulator]\nprofile = "acme"\n', "emulator.profile"),
    "emulator": ("emulator = 1\n", "emulator"),
    "routes": ("routes = {}\n", "routes"),
    "functions": ("functions = []\n", "functions"),
    "route without function": ("[[routes]]\nroute = 'ANY /'\n", "routes[0].function"),
    "route without path": (FUNCTION + "[[routes]]\nfunction = 'f'\n", "routes[0].route"),
    "route relative": (FUNCTION + "[[routes]]\nroute = 'ANY x'\nfunction = 'f'\n", "routes[0].route"),
    "route with a hole": (FUNCTION + "[[routes]]\nroute = 'ANY /a//b'\nfunction = 'f'\n", "routes[0].route"),
    "greedy inside": (FUNCTION + "[[routes]]\nroute = 'ANY /{p+}/b'\nfunction = 'f'\n", "routes[0].route"),
    "half a segment": (FUNCTION + "[[routes]]\nroute = 'ANY /a{p}'\nfunction = 'f'\n", "routes[0].route"),
    "method": (FUNCTION + "[[routes]]\nroute = 'get /'\nfunction = 'f'\n", "routes[0].route"),
    "default with method": (
        FUNCTION + "[[routes]]\nroute = 'GET $default'\nfunction = 'f'\n", "routes[0].route",
    ),
}
"""Text, and the key that must be named."""

BAD_BEYOND_SCHEMA = {
    "no runtime": (FUNCTION.replace('runtime = "python3.11"', ""), "functions.f.runtime"),
    "no handler": (FUNCTION.replace('handler = "app.handler"', ""), "functions.f.handler"),
    "handler without dot": (FUNCTION.replace("app.handler", "app"), "functions.f.handler"),
    "handler's file": (FUNCTION.replace("app.handler", "other.handler"), "functions.f.handler"),
    "code folder": (FUNCTION.replace('"py"', '"nowhere"'), "functions.f.code"),
    "code is a text": (FUNCTION.replace('"py"', '"py/app.py"'), "functions.f.code"),
    "handler left out": (FUNCTION + 'exclude = ["app.py"]\n', "functions.f.handler"),
    "requirements missing": (FUNCTION + 'requirements = "r.txt"\n', "functions.f.requirements"),
    "environment too large": (
        FUNCTION + f"environment = {{ BIG = '{'x' * 4096}' }}\n", "functions.f.environment",
    ),
    "too much reserved": (FUNCTION + "reserved_concurrency = 901\n", "functions.f.reserved_concurrency"),
    "nothing to reserve": (
        "[emulator]\naccount_concurrency = 50\n" + FUNCTION + "reserved_concurrency = 1\n",
        "functions.f.reserved_concurrency",
    ),
    "route to nobody": (FUNCTION + "[[routes]]\nroute = 'ANY /'\nfunction = 'ff'\n", "routes[0].function"),
    "same parameter twice": (
        FUNCTION + "[[routes]]\nroute = 'ANY /{a}/{a}'\nfunction = 'f'\n", "routes[0].route",
    ),
    "same route twice": (
        FUNCTION + "[[routes]]\nroute = 'ANY /{a}'\nfunction = 'f'\n[[routes]]\nroute = 'ANY /{b}'\nfunction = 'f'\n",
        "routes[1].route",
    ),
    "bootstrap missing": (
        FUNCTION.replace("python3.11", "provided.al2").replace('handler = "app.handler"', ""),
        "functions.f.code",
    ),
}
