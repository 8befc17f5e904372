"""The images that Docker instances run in: found, or built, by content.

``runtimes/<family>/Dockerfile`` on top of a base. The base is a public image
where a registry answers; else a small Debian made by ``mmdebstrap``. Tags name
the content (``faas-emulator/python3.11:<hash>``), so that a changed Dockerfile
is a new image and an unchanged one is never built again.

``python -m emulator.sandbox.images [IDENTIFIER...]`` builds ahead (``make images``).
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.runtimes import RuntimeUnavailable, sources
from emulator.sandbox.protocol import BackendUnavailable, Progress

PROBE_TIMEOUT = 6.0
"""Seconds that the daemon may take to ask a registry whether an image exists."""
PROBE_VALID = 3600.0
"""Seconds for which its answer is believed."""
REPOSITORY = "faas-emulator"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an image is made of."""

    identifier: str
    family: str
    """The folder under ``runtimes/`` with the Dockerfile."""
    public: str
    """The base where a registry answers."""
    suite: str = ""
    """The Debian release that has this interpreter; empty: none has."""
    packages: tuple[str, ...] = ()


_PYTHON_SUITES = {"3.9": "bullseye", "3.11": "bookworm", "3.13": "trixie"}
_NODE_SUITES = {"18": "bookworm", "20": "trixie"}


def recipe_for(identifier: str) -> Recipe:
    """Raises BackendUnavailable for a runtime that has no image."""
    if matched := re.fullmatch(r"python(3\.\d+)", identifier):
        minor = matched[1]
        return Recipe(
            identifier,
            "python",
            f"python:{minor}-slim",
            _PYTHON_SUITES.get(minor, ""),
            ("python3", "libstdc++6", "ca-certificates"),
        )
    if matched := re.fullmatch(r"nodejs(\d+)\.x", identifier):
        major = matched[1]
        return Recipe(
            identifier,
            "nodejs",
            f"node:{major}-slim",
            _NODE_SUITES.get(major, ""),
            ("nodejs", "ca-certificates"),
        )
    if identifier == "provided" or identifier.startswith("provided."):
        # All of them are one image: what they promise is a shell and a bootstrap.
        return Recipe(
            "provided",
            "provided",
            "debian:bookworm-slim",
            "bookworm",
            ("curl", "libstdc++6", "ca-certificates"),
        )
    raise BackendUnavailable(
        f"{identifier}: no Docker image for this runtime; use python3.x, nodejs*.x, or provided.al2023"
    )


class Images:
    """Images by runtime identifier. Everything here blocks: call it from a thread."""

    def __init__(self, api: Any, *, cache: Path, runtimes: Path | None = None) -> None:
        self._api = api
        try:
            self._runtimes = runtimes or sources()
        except RuntimeUnavailable as problem:
            raise BackendUnavailable(str(problem)) from problem
        self._registry_note = cache / "registry.json"

    def ensure(self, identifier: str, progress: Progress) -> str:
        """The tag of a ready image. Slow only the first time. Raises BackendUnavailable."""
        recipe = recipe_for(identifier)
        for base in (recipe.public, _debian_tag(recipe, self._runtimes)):
            if base and self._exists(tag := self._tag(recipe, base)):
                return tag
        base = self.base(recipe, progress)
        tag = self._tag(recipe, base)
        if not self._exists(tag):
            progress(f"building image {tag} from {base}")
            self._build(self._runtimes / recipe.family, tag, base, progress)
        return tag

    def base(self, recipe: Recipe, progress: Progress) -> str:
        """A base image that is here: the public one if it can be had, else Debian's."""
        if self._exists(recipe.public) or self._pulled(recipe.public, progress):
            return recipe.public
        tag = _debian_tag(recipe, self._runtimes)
        if not tag:
            raise BackendUnavailable(
                f"{recipe.identifier}: no registry answers for {recipe.public}, and Debian has no packages "
                f"of it: `docker pull {recipe.public}` (or `docker load`) first, or use --sandbox process"
            )
        if not self._exists(tag):
            self._debian(recipe, tag, progress)
        return tag

    def tag_emulator_base(self, progress: Progress) -> None:
        """``faas-emulator/base``: a Python for the emulator's own image. Raises BackendUnavailable."""
        self._api.tag(self.base(recipe_for("python3.11"), progress), f"{REPOSITORY}/base")

    def _exists(self, tag: str) -> bool:
        from docker.errors import ImageNotFound

        try:
            self._api.inspect_image(tag)
        except ImageNotFound:
            return False
        return True

    def _tag(self, recipe: Recipe, base: str) -> str:
        folder = self._runtimes / recipe.family
        digest = hashlib.sha256(f"{base}\n".encode())
        digest.update((folder / "Dockerfile").read_bytes())
        return f"{REPOSITORY}/{recipe.identifier}:{digest.hexdigest()[:12]}"

    # -- public bases -------------------------------------------------------

    def _pulled(self, image: str, progress: Progress) -> bool:
        if not self._registry_has(image):
            return False
        progress(f"pulling {image}")
        try:
            for line in self._api.pull(image, stream=True, decode=True):
                if "error" in line:
                    raise OSError(line["error"])
        except Exception as error:
            progress(f"pulling {image} failed ({error}); building a base from Debian packages instead")
            return False
        return True

    def _registry_has(self, image: str) -> bool:
        try:
            known = json.loads(self._registry_note.read_text())
        except (OSError, ValueError):
            known = {}
        noted = known.get(image)
        if noted and 0 <= time.time() - noted["at"] < PROBE_VALID:
            return bool(noted["there"])
        try:
            answer = self._api._get(self._api._url("/distribution/{0}/json", image), timeout=PROBE_TIMEOUT)
            there = bool(answer.status_code == 200)
        except Exception:  # no network, a proxy in the way, an engine without that call
            there = False
        self._registry_note.parent.mkdir(parents=True, exist_ok=True)
        self._registry_note.write_text(json.dumps({**known, image: {"there": there, "at": time.time()}}))
        return there

    # -- our own ------------------------------------------------------------

    def _debian(self, recipe: Recipe, tag: str, progress: Progress) -> None:
        if shutil.which("mmdebstrap") is None:
            raise BackendUnavailable(
                f"{recipe.identifier}: no registry answers for {recipe.public}, and mmdebstrap is not "
                f"installed: `apt-get install mmdebstrap`, or `docker pull {recipe.public}` first, "
                "or use --sandbox process"
            )
        progress(f"building {tag} from Debian {recipe.suite} packages (about 20 s, once)")
        with tempfile.TemporaryDirectory(prefix="faas-base-") as folder:
            archive = Path(folder, "base.tar")
            script = self._runtimes / "base" / "debian.sh"
            command = ["sh", str(script), recipe.suite, str(archive), *recipe.packages]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["no output"])[-1]
                raise BackendUnavailable(f"{recipe.identifier}: mmdebstrap failed: {last}")
            repository, _, version = tag.rpartition(":")
            answer = self._api.import_image_from_file(str(archive), repository=repository, tag=version)
            if '"error"' in answer:
                raise BackendUnavailable(f"{recipe.identifier}: docker import failed: {answer.strip()}")

    def _build(self, folder: Path, tag: str, base: str, progress: Progress) -> None:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(folder / "Dockerfile", "Dockerfile")
        packed.seek(0)
        lines = self._api.build(
            fileobj=packed,
            custom_context=True,
            tag=tag,
            buildargs={"BASE": base},
            rm=True,
            forcerm=True,
            decode=True,
        )
        for line in lines:
            if "error" in line:
                raise BackendUnavailable(f"building {tag} failed: {line['error'].strip()}")
            if text := line.get("stream", "").strip():
                progress(text)


def _debian_tag(recipe: Recipe, runtimes: Path) -> str:
    if not recipe.suite:
        return ""
    facts = "\n".join([recipe.suite, *recipe.packages, (runtimes / "base" / "debian.sh").read_text()])
    return f"{REPOSITORY}/base-{recipe.identifier}:{hashlib.sha256(facts.encode()).hexdigest()[:12]}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the images of these runtimes (default: one of each family). Exit status 1 if one can't be."""
    from emulator.runtimes import cache_folder
    from emulator.sandbox.docker_engine import connect, engine_url

    wanted = list(sys.argv[1:] if arguments is None else arguments)
    wanted = wanted or ["python3.11", "nodejs20.x", "provided.al2023"]

    def say(line: str) -> None:
        sys.stderr.write(line + "\n")

    failed = False
    try:
        images = Images(connect(engine_url()), cache=cache_folder())
        # What docker-compose.yml may build the emulator's own image from (BASE=faas-emulator/base).
        images.tag_emulator_base(say)
        for identifier in wanted:
            try:
                sys.stdout.write(images.ensure(identifier, say) + "\n")
            except BackendUnavailable as problem:
                say(str(problem))
                failed = True
    except BackendUnavailable as problem:
        say(str(problem))
        failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
