#!/bin/sh
# Builds faas-emulator/prometheus from Debian's package, where no registry answers:
#   runtimes/base/prometheus.sh && PROMETHEUS_IMAGE=faas-emulator/prometheus docker compose --profile observability up
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$(dirname "$0")/debian.sh" bookworm "$folder/base.tar" prometheus
docker import \
  -c 'ENTRYPOINT ["/usr/bin/prometheus"]' -c 'WORKDIR /prometheus' "$folder/base.tar" faas-emulator/prometheus
