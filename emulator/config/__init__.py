"""Configuration: ``faas.toml``, flags and environment become frozen values here.

Nobody else reads ``os.environ`` or a configuration file. Everything wrong is
reported at once, as one ``ConfigError``, before anything starts.
"""

from emulator.core.model import Route

from .enforcement import unenforced
from .errors import ConfigError, Problem
from .functions import FunctionConfig
from .project import Project, load, load_project
from .settings import Settings, make_settings

__all__ = [
    "ConfigError", "FunctionConfig", "Problem", "Project", "Route", "Settings",
    "load", "load_project", "make_settings", "unenforced",
]
