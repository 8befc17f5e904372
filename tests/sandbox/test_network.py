"""``network = "none"`` through a whole cloud: the function answers, and reaches nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.cloud import Cloud

_TOML = """
[functions.alone]
runtime = "python3"
handler = "app.handler"
code = "code"
network = "none"

[functions.open]
runtime = "python3"
handler = "app.handler"
code = "code"
"""

_CODE = """
import os, urllib.request

def handler(event, context):
    reached = {}
    for url in event:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            reached[url] = True
        except OSError:
            reached[url] = False
    try:
        urllib.request.urlopen(f"http://{os.environ['AWS_LAMBDA_RUNTIME_API']}/2018-06-01/ping", timeout=2).close()
        reached["runtime api"] = True
    except OSError:
        reached["runtime api"] = False
    return reached
"""


@pytest.mark.linux
def test_a_function_without_a_network(code_folder: Path) -> None:
    project = code_folder / "project"
    (project / "code").mkdir(parents=True)
    (project / "code" / "app.py").write_text(_CODE)
    (project / "faas.toml").write_text(_TOML)
    with Cloud.start(project / "faas.toml", home=code_folder / "home", sandbox="process") as cloud:
        url = cloud.api_url + "/_faas/health"
        if any("network_isolation" in line or 'network = "none"' in line for line in cloud.output):
            assert os.geteuid() != 0, cloud.output
            pytest.skip("this machine permits no network namespaces: " + "; ".join(cloud.output))
        assert cloud.invoke("open", [url]).json() == {url: True, "runtime api": True}
        for _ in range(2):  # cold, then warm
            assert cloud.invoke("alone", [url]).json() == {url: False, "runtime api": True}
