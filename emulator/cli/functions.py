"""``faas list``: what is deployed."""

from __future__ import annotations

import argparse

from .client import Client
from .output import print_json, print_table


def list_functions(arguments: argparse.Namespace) -> int:
    answer = Client.of(arguments).json("GET", "/_faas/functions")
    if arguments.json:
        print_json(answer)
        return 0
    if not answer["functions"]:
        print("no functions: add one to faas.toml (`faas new NAME` makes a folder to begin with)")
        return 0
    rows = []
    for function in answer["functions"]:
        urls = function.get("urls") or [""]
        reserved = function.get("reserved_concurrency")
        rows.append([
            function["name"], function["runtime"], function["handler"] or "-", f"{function['memory']} MB",
            f"{function['timeout']:g}s", function["revision"], "-" if reserved is None else str(reserved),
            str(function["instances"]), urls[0],
        ])
        rows += [[""] * 8 + [url] for url in urls[1:]]
    heads = ["NAME", "RUNTIME", "HANDLER", "MEMORY", "TIMEOUT", "REVISION", "RESERVED", "INSTANCES", "URL"]
    print_table(heads, rows, right=["MEMORY", "TIMEOUT", "RESERVED", "INSTANCES"])
    return 0
