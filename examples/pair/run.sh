#!/usr/bin/env bash
# Two replicas on one database: one coordinates, the other watches. Kills the coordinator, and shows how the
# other takes over and what it tells.
#
#   examples/pair/run.sh
#
# DATABASE_URL names an empty MySQL or MariaDB database (mysql://user:password@host/database). Without it a
# private MariaDB is started, if one is installed. GOTEL is the program (default: gotel on the PATH).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
gotel=${GOTEL:-gotel}
eu=http://127.0.0.1:8080
us=http://127.0.0.1:9080
folder=$(mktemp -d)
pids=()
trap 'for pid in "${pids[@]}"; do kill -9 "$pid" 2>/dev/null || true; done; wait 2>/dev/null || true; rm -rf "$folder"' EXIT

until_true() { # SECONDS WHAT COMMAND…
  local tries=$(($1 * 5)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    ((tries-- > 0)) || { echo "waited in vain for $what" >&2; tail -n 20 "$folder"/*.log >&2; exit 1; }
    sleep 0.2
  done
}

database() {
  command -v mariadb-install-db >/dev/null || { echo "give DATABASE_URL, or install MariaDB" >&2; exit 1; }
  mariadb-install-db --no-defaults --user="$(id -un)" --datadir="$folder/data" --skip-test-db \
    --auth-root-authentication-method=normal >"$folder/mariadb.log" 2>&1 </dev/null
  printf '%s;\n' "CREATE DATABASE gotel" "CREATE USER gotel@'%' IDENTIFIED BY 'gotel'" \
    "GRANT ALL ON gotel.* TO gotel@'%'" >"$folder/init.sql"
  PATH=$PATH:/usr/sbin mariadbd --no-defaults --user="$(id -un)" --datadir="$folder/data" \
    --socket="$folder/socket" --bind-address=127.0.0.1 --port=33061 --skip-name-resolve --init-file="$folder/init.sql" \
    >>"$folder/mariadb.log" 2>&1 </dev/null &
  pids+=($!)
  until_true 60 "MariaDB" grep -q "ready for connections" "$folder/mariadb.log"
  DATABASE_URL=mysql://gotel:gotel@127.0.0.1:33061/gotel
}

start() { # ID
  "$gotel" serve --config "$here/$1.yaml" >"$folder/$1.log" 2>&1 </dev/null &
  pids+=($!)
  echo $! >"$folder/$1.pid"
  disown $! # the shell need not say that it was killed
}

leads() { # URL
  [ "$(curl -fsS -m 5 "$1/is-coordinator")" = true ]
}

one_leads() {
  leads "$eu" || leads "$us"
}

[ -n "${DATABASE_URL:-}" ] || database
export GOTEL_DB=$DATABASE_URL
GOTEL_PEER_SECRET=$(od -An -tx1 -N16 /dev/urandom | tr -d ' \n')
export GOTEL_PEER_SECRET

start eu
start us
until_true 60 "both replicas" curl -fsS -m 5 "$eu/readyz" "$us/readyz"
until_true 60 "a coordinator" one_leads
if leads "$eu"; then first=eu other=us survivor=$us; else first=us other=eu survivor=$eu; fi
until_true 60 "both to see each other" sh -c "curl -fsS -m 5 $survivor/nodes | grep -c '</svg>healthy' | grep -q 2"
echo "$first-1 coordinates, $other-1 watches it."

echo "kill -9 $first-1"
kill -9 "$(cat "$folder/$first.pid")"
SECONDS=0
until_true 60 "the take-over" leads "$survivor"
echo "$other-1 coordinates, after $SECONDS s."
until_true 60 "the page" grep -q "peer-dead/$first-1" "$folder/$other.log"
until_true 60 "its end" grep -q "^└─" "$folder/$other.log"
sed -n '/^┌─/,/^└─/p' "$folder/$other.log"

echo "$survivor/nodes says:"
curl -fsS -m 5 "$survivor/nodes" | sed -e 's/<[^>]*>/\n/g' | sed -n '/^Evidence$/,/^This replica$/p' |
  sed -e '/^Evidence$/d' -e '/^This replica$/d' -e 's/^/  /' | grep -v '^ *$'
