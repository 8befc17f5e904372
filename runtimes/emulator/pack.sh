#!/bin/sh
# Packs what the emulator imports into .build/site.tar, outside any container:
# for machines whose containers can't reach PyPI. Run from the project's root.
#
#   pack.sh [PYTHON]      a Python of the image's version (3.11), with pip
set -eu
python=${1:-python3}
mkdir -p .build
site=$(mktemp -d .build/site.XXXXXX)
trap 'rm -rf "$site"' EXIT
"$python" - <<'PY' > "$site/requirements.txt"
import tomllib
print("\n".join(tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]))
PY
mkdir "$site/packages"
"$python" -m pip install --quiet --disable-pip-version-check --target "$site/packages" -r "$site/requirements.txt"
tar -cf .build/site.tar -C "$site/packages" .
