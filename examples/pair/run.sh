#!/usr/bin/env bash
# Two replicas on one database: one coordinates, the other watches. Kills the coordinator, and shows how the
# other takes over and what it tells. Takes about a minute.
#
#   examples/pair/run.sh
#
# DATABASE_URL names an empty MySQL or MariaDB database (mysql://user:password@host/database). Without it a
# private MariaDB is started, if one is installed (Debian: apt-get install mariadb-server-core; nothing of it stays).
# GOTEL is the program; without it `gotel` on the PATH, or else what cargo builds of this clone.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ -n "${GOTEL:-}" ] || command -v gotel >/dev/null; then
  gotel=("${GOTEL:-gotel}")
else
  gotel=(cargo run --quiet --locked --manifest-path "$here/../../Cargo.toml" --)
fi
"${gotel[@]}" version >/dev/null
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
  command -v mariadb-install-db >/dev/null || {
    echo "give DATABASE_URL=mysql://user:password@host/database, or install MariaDB (mariadb-server-core)" >&2
    exit 1
  }
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
  "${gotel[@]}" serve --config "$here/$1.yaml" >"$folder/$1.log" 2>&1 </dev/null &
  pids+=($!)
  echo $! >"$folder/$1.pid"
  disown $! # the shell need not say that it was killed
}

both_healthy() { # as each of them says
  local url
  for url in "$eu" "$us"; do
    [ "$(curl -fsS -m 5 "$url/nodes" | grep -c '</svg>healthy')" = 2 ] || return 1
  done
}

leads() { # URL
  [ "$(curl -fsS -m 5 "$1/is-coordinator")" = true ]
}

for url in "$eu" "$us"; do
  ! curl -s -m 2 -o /dev/null "$url" || { echo "somebody listens on $url already (make run?): end that first" >&2; exit 1; }
done
[ -n "${DATABASE_URL:-}" ] || database
export GOTEL_DB=$DATABASE_URL
GOTEL_PEER_SECRET=$(od -An -tx1 -N16 /dev/urandom | tr -d ' \n')
export GOTEL_PEER_SECRET

start eu
until_true 60 "a coordinator" leads "$eu"
start us
until_true 60 "both to see each other" both_healthy
echo "eu-1 coordinates, us-1 watches it."

echo "kill -9 eu-1"
kill -9 "$(cat "$folder/eu.pid")"
SECONDS=0
until_true 60 "the take-over" leads "$us"
echo "us-1 coordinates, after $SECONDS s."
until_true 60 "the page" grep -q "peer-dead/eu-1" "$folder/us.log"
until_true 60 "its end" grep -q "^└─" "$folder/us.log"
sed -n '/^┌─/,/^└─/p' "$folder/us.log"

echo "$us/nodes says:"
# One line a replica: state, id, role, ages of beat, evaluation and watch, evidence.
curl -fsS -m 5 "$us/nodes" | tr '\n' ' ' |
  sed -e 's|<h2>This replica.*||' -e 's|<tr[^>]*>|\n|g' | sed -n '3,$p' |
  sed -e 's|</t[dh]> *<|, <|g' -e 's|<[^>]*>| |g' -e 's|  *| |g' -e 's| ,|,|g' -e 's|\., *$|.|'
echo
