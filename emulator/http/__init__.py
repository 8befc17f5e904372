"""The only package that names the HTTP libraries: requests, answers, servers."""

from .message import HttpRequest, Respond
from .server import HttpServer, bind

__all__ = ["HttpRequest", "HttpServer", "Respond", "bind"]
