"""What faas.toml says becomes what the emulator runs; what is wrong with it is told, all at once."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from emulator.config import ConfigError, Problem, Project, Route, Settings, load, load_project, make_settings

from .examples import BAD, BAD_BEYOND_SCHEMA, FUNCTION, GOOD

Read = Callable[[str], Project]
Problems = Callable[[str], tuple[Problem, ...]]


def test_everything_that_can_be_said(read: Read, folder: Path) -> None:
    project = read(GOOD["all"])
    f, g, h = project.functions
    assert (f.name, f.runtime, f.handler, f.code) == ("f", "python3.11", "app.handler", folder / "py")
    assert (f.memory, f.timeout, f.ephemeral_storage, f.reserved_concurrency) == (512, 900, 1024, 5)
    assert (f.network, f.include, f.exclude, f.prewarm) == ("none", ("**/*.py",), ("tests/**",), 2)
    assert f.environment == {"LEVEL": "debug", "STAGE": "local"}
    assert (g.memory, g.keep_alive, g.environment["LEVEL"], g.network) == (256, 2.5, "info", "default")
    assert (h.handler, h.reserved_concurrency, h.timeout) == ("", None, 3)
    assert project.routes == (
        Route("GET", "/things/{id}/", "f"), Route("ANY", "/files/{proxy+}", "g-2"), Route("ANY", "/", "f"),
        Route("ANY", "$default", "H_3"),
    )
    assert project.file == folder / "faas.toml"
    settings = make_settings(file=project.settings, root=project.root)
    assert settings == Settings(
        host="0.0.0.0", port=0, api_port=4567, sandbox="process", home=folder / "state", profile="aws",
        strict=True, log_format="json", account="123456789012", region="eu-central-1",
        account_concurrency=500, memory_capacity=2048, parallel_starts=4, cpu_limit=True, watch=False,
    )


def test_a_folder_without_a_file_is_an_empty_cloud(tmp_path: Path) -> None:
    project = load_project(tmp_path)
    assert (project.functions, project.routes, project.file) == ((), (), None)
    assert len(project.warnings) == 1
    assert "faas.toml" in project.warnings[0]


def test_the_file_itself_under_any_name(read: Read, folder: Path) -> None:
    (folder / "other.toml").write_text(FUNCTION)
    project = load_project(folder / "other.toml")
    assert [function.name for function in project.functions] == ["f"]
    assert project.root == folder


@pytest.mark.parametrize("name", [*BAD, *BAD_BEYOND_SCHEMA])
def test_what_is_wrong_is_named(name: str, problems: Problems) -> None:
    text, key = (BAD | BAD_BEYOND_SCHEMA)[name]
    found = problems(text)
    assert [problem.key for problem in found] == [key], found
    assert found[0].line is not None
    assert found[0].source.endswith("faas.toml")
    assert found[0].expected
    assert found[0].found


def test_all_errors_at_once_in_the_order_of_the_file(problems: Problems) -> None:
    found = problems(
        '[emulator]\nport = 70000\n\n'
        '[functions.a]\nruntime = "python3.11"\nhandler = "nope.h"\ncode = "py"\n'
        'memory = 1\nmemroy = 2\n\n[functions.b]\ncode = "gone"\n\n[[routes]]\nroute = "ANY x"\nfunction = "c"\n'
    )
    assert [(problem.line, problem.key) for problem in found] == [
        (2, "emulator.port"),
        (6, "functions.a.handler"), (8, "functions.a.memory"), (9, "functions.a.memroy"),
        (11, "functions.b.runtime"), (11, "functions.b.handler"), (12, "functions.b.code"),
        (15, "routes[0].route"), (16, "routes[0].function"),
    ]


def test_one_line_says_it_all(problems: Problems) -> None:
    (problem,) = problems(FUNCTION + "memroy = 128\n")
    line = str(problem)
    assert "faas.toml:5: functions.f.memroy: expected a known key" in line
    assert 'did you mean "memory"?' in line


@pytest.mark.parametrize(("text", "hint"), [
    (FUNCTION.replace("python3.11", "python311"), 'did you mean "python3.11"?'),
    (FUNCTION.replace("python3.11", "java21"), "does not run it"),
    (FUNCTION + "environment = { PORT = 80 }\n", "quotes"),
    (FUNCTION + '[[routes]]\nroute = "ANY /"\nfunction = "ff"\n', 'did you mean "f"?'),
])
def test_hints(text: str, hint: str, problems: Problems) -> None:
    (problem,) = problems(text)
    assert hint in problem.hint


def test_a_syntax_error_has_its_line(problems: Problems) -> None:
    (problem,) = problems("[functions.f]\nmemory = \n")
    assert problem.line == 2
    assert problem.expected == "valid TOML"


def test_what_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path / "faas.toml"):
        with pytest.raises(ConfigError):
            load_project(path)


def test_a_bootstrap_must_be_executable(folder: Path, problems: Problems) -> None:
    (folder / "sh" / "bootstrap").chmod(0o644)
    (problem,) = problems('[functions.f]\nruntime = "provided.al2023"\ncode = "sh"\n')
    assert "chmod +x" in problem.found


@pytest.mark.parametrize(("runtime", "handler", "file"), [
    ("python3.11", "pkg/app.handler", "pkg/app.py"), ("python3.11", "pkg.app.handler", "pkg/app.py"),
    ("python3.12", "pkg.handler", "pkg/__init__.py"), ("nodejs20.x", "src/index.handler", "src/index.js"),
    ("nodejs22.x", "index.handler", "index.cjs"), ("nodejs20.x", "index.api.handler", "index.mjs"),
])
@pytest.mark.parametrize("zipped", [False, True])
def test_where_a_handler_may_be(
    runtime: str, handler: str, file: str, zipped: bool, folder: Path, read: Read
) -> None:
    code = folder / "code.zip" if zipped else folder / "code"
    if zipped:
        with zipfile.ZipFile(code, "w") as archive:
            archive.writestr(file, "")
    else:
        (code / file).parent.mkdir(parents=True)
        (code / file).write_text("")
    project = read(f'[functions.f]\nruntime = "{runtime}"\nhandler = "{handler}"\ncode = "{code.name}"\n')
    assert project.functions[0].code == code


def test_requirements_beside_the_code_are_found(folder: Path, read: Read) -> None:
    (folder / "py" / "requirements.txt").write_text("")
    assert read(FUNCTION).functions[0].requirements == folder / "py" / "requirements.txt"
    assert read(FUNCTION + "requirements = false\n").functions[0].requirements is None
    (folder / "r.txt").write_text("")
    assert read(FUNCTION + 'requirements = "r.txt"\n').functions[0].requirements == folder / "r.txt"


def test_flags_over_environment_over_file_over_defaults(read: Read, folder: Path) -> None:
    read("[emulator]\nport = 1\napi_port = 2\nregion = 'eu-west-1'\n" + FUNCTION)
    settings, _ = load(
        folder, flags={"port": "5", "host": None},
        environ={"FAAS_PORT": "3", "FAAS_API_PORT": "4", "FAAS_STRICT": "1"},
    )
    assert (settings.port, settings.api_port, settings.region) == (5, 4, "eu-west-1")
    assert settings.host == "127.0.0.1"
    assert settings.strict
    assert settings.home == folder / ".faas"


def test_settings_and_file_are_refused_together(read: Read, folder: Path) -> None:
    (folder / "faas.toml").write_text("x = 1\n")
    with pytest.raises(ConfigError) as caught:
        load(folder, flags={"port": "x"}, environ={"FAAS_SANDBOX": "podman"})
    assert {problem.source for problem in caught.value.problems} >= {"--port", "FAAS_SANDBOX"}
    assert "x" in {problem.key for problem in caught.value.problems}


def test_the_limit_of_the_command_line_counts_for_reserving(read: Read, folder: Path) -> None:
    (folder / "faas.toml").write_text(FUNCTION + "reserved_concurrency = 901\n")
    load(folder, flags={"account_concurrency": "2000"})
    with pytest.raises(ConfigError):
        load(folder, environ={})


def test_a_relative_home_of_the_environment_is_meant_from_here(tmp_path: Path) -> None:
    assert make_settings(environ={"FAAS_HOME": "x"}, root=tmp_path).home == Path(os.getcwd()) / "x"
