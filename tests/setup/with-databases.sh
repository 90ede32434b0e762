#!/usr/bin/env bash
# with-databases.sh [--clusters|--all] COMMAND…
# Starts MariaDB and MySQL (with --clusters also two Kubernetes clusters; with --all those, a Galera cluster, the browser
# and the foreign mail server), runs COMMAND with their addresses in its environment and GOTEL_TEST_REQUIRE=1, ends what
# it started however COMMAND ends, and exits as COMMAND did. What has an address in the environment already is used as it
# is.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
components=(mariadb mysql)
case "${1:-}" in
  --all)
    components+=(galera chromium python-smtp controlplane)
    shift
    ;;
  --clusters)
    components+=(controlplane)
    shift
    ;;
esac
[ $# -gt 0 ] || {
  echo "usage: tests/setup/with-databases.sh [--clusters|--all] COMMAND…" >&2
  exit 2
}

runs=${GOTEL_TEST_STATE:-$here/../../target/setup}
mkdir -p "$runs"
runs=$(cd "$runs" && pwd)

end_servers_of() {
  local component
  for component in mariadb mysql galera chromium python-smtp controlplane; do
    [ -d "$1/$component" ] || continue
    GOTEL_TEST_STATE=$1 "$here/$component.sh" stop || true
  done
  rm -rf "$1"
}

# A run that was killed outright could not clean up: the next one does.
for old in "$runs"/run.*; do
  [ -d "$old" ] && ! [ -d "/proc/${old##*.}" ] && end_servers_of "$old"
done

state=$runs/run.$$
trap 'end_servers_of "$state"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

for component in "${components[@]}"; do
  exports=$(GOTEL_TEST_STATE=$state "$here/$component.sh" start)
  eval "$exports"
done
export GOTEL_TEST_REQUIRE=1

"$@" &
command=$!
trap 'kill -TERM $command 2>/dev/null || true; wait $command || true; exit 130' INT
trap 'kill -TERM $command 2>/dev/null || true; wait $command || true; exit 143' TERM HUP
wait $command
