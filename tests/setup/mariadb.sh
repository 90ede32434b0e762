#!/usr/bin/env bash
# MariaDB from Debian (10.11 on Debian 12) as a private server: own data folder, own port, durable commits.
# Prints GOTEL_TEST_MARIADB_URL; stands aside where that is already set. See lib.sh for the verbs.
# GOTEL_TEST_SERVER_ENV="NAME=value …" is put into the server's environment: how a test gives it another clock;
# GOTEL_TEST_SERVER_ARGS="--option …" is added to its options: how a test gives it a small disk.
component=mariadb
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

stand_aside() { [ -n "${GOTEL_TEST_MARIADB_URL:-}" ]; }

# The -core packages hold the server and its installer and no service that could start by itself.
install() {
  [ -x /usr/sbin/mariadbd ] && [ -x /usr/bin/mariadb-install-db ] && [ -d /usr/share/doc/libfaketime ] && return
  lock_installs
  need_packages mariadb-server-core mariadb-client-core libfaketime
}

# Making the system tables takes seconds; copying them does not.
template() {
  local made=$cache/mariadb-$(dpkg-query -W -f '${Version}' mariadb-server-core | tr -c 'a-zA-Z0-9.\n' _)
  if [ ! -d "$made" ]; then
    lock_installs
    [ -d "$made" ] || {
      rm -rf "$made.new"
      mariadb-install-db --no-defaults --user="$(id -un)" --datadir="$made.new" --skip-test-db \
        --auth-root-authentication-method=normal --innodb-log-file-size=64M >"$state/log" 2>&1 </dev/null ||
        show_log_and_die "mariadb-install-db failed"
      mv "$made.new" "$made"
    }
  fi
  echo "$made"
}

start_it() {
  local data=$state/data port tries
  if [ ! -d "$data" ]; then
    cp -r "$(template)" "$data.new"
    cat >"$state/init.sql" <<'SQL'
CREATE USER IF NOT EXISTS gotel@'%' IDENTIFIED BY 'gotel';
GRANT ALL PRIVILEGES ON *.* TO gotel@'%' WITH GRANT OPTION;
SQL
    mv "$data.new" "$data"
  fi
  # Its own: a server that starts removes what looks like a dead one's temporary tables.
  mkdir -p "$state/tmp"
  rm -f "$data/server.sock" "$data/server.pid" # of a killed server
  for tries in 1 2 3; do
    port=$(cat "$state/port" 2>/dev/null || free_port)
    # shellcheck disable=SC2086  # one word a variable, one an option
    launch env ${GOTEL_TEST_SERVER_ENV:-} /usr/sbin/mariadbd --no-defaults --user="$(id -un)" --datadir="$data" --tmpdir="$state/tmp" \
      --port="$port" --bind-address=127.0.0.1 --socket=server.sock --pid-file=server.pid \
      --init-file="$state/init.sql" --skip-name-resolve --skip-log-bin --performance-schema=OFF \
      --character-set-server=utf8mb4 --max-connections=500 --innodb-buffer-pool-size=128M \
      --innodb-log-file-size=64M --innodb-flush-log-at-trx-commit=1 ${GOTEL_TEST_SERVER_ARGS:-}
    if await_ready "$port" 60 "ready for connections"; then
      echo "$port" >"$state/port"
      echo "export GOTEL_TEST_MARIADB_URL=mysql://gotel:gotel@127.0.0.1:$port/" >"$state/exports"
      return
    fi
    end_process
  done
  show_log_and_die "mariadbd did not start"
}

forget_data() { :; }

main "$@"
