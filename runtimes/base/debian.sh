#!/bin/sh
# Writes a small Debian root file system as a tar archive, for `docker import`.
# Used where no image registry answers; needs only a Debian mirror.
#
#   debian.sh SUITE OUTPUT.tar PACKAGE...
set -eu
suite=$1 output=$2
shift 2
packages=$(IFS=,; echo "$*")
exec mmdebstrap --quiet --variant=essential --include="$packages" \
  --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/info/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  --dpkgopt='path-exclude=/usr/share/i18n/*' \
  "$suite" "$output"
