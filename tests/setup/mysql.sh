#!/usr/bin/env bash
# MySQL 9 from Debian unstable, in a small Debian root of its own because Debian's releases carry MariaDB only.
# A private server: own data folder, own port, durable commits; the test user logs in by caching_sha2_password.
# Prints GOTEL_TEST_MYSQL_URL; stands aside where that is already set. See lib.sh for the verbs.
component=mysql
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

root=$cache/mysql-root

stand_aside() { [ -n "${GOTEL_TEST_MYSQL_URL:-}" ]; }

# The archive this machine's own apt takes Debian from.
mirror() {
  apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1
}

apt_proxy() {
  local http_proxy=
  eval "$(apt-config shell http_proxy Acquire::http::Proxy)"
  echo "$http_proxy"
}

install() {
  [ -x "$root/usr/sbin/mysqld" ] && [ -d "$root/template" ] && return
  can_be_root || die "needs root: debootstrap and chroot make and use a Debian root for mysql-server-core"
  lock_installs
  [ -x "$root/usr/sbin/mysqld" ] && [ -d "$root/template" ] && return
  need_packages debootstrap debian-archive-keyring
  [ -n "$(mirror)" ] || as_root apt-get update -qq >/dev/null
  local from proxy
  from=$(mirror)
  [ -n "$from" ] || die "apt knows no Debian archive to take MySQL from"
  proxy=$(apt_proxy)
  if [ ! -x "$root/usr/sbin/mysqld" ]; then
    echo "tests/setup: installing mysql-server-core into a Debian root (about a minute)" >&2
    local tries
    for tries in 1 2; do
      as_root rm -rf "$root.new"
      as_root env ${proxy:+http_proxy="$proxy"} debootstrap --variant=minbase --include=mysql-server-core \
        sid "$root.new" "$from" >"$state/log" 2>&1 9>&- </dev/null && break
      [ "$tries" = 1 ] || show_log_and_die "debootstrap failed"
    done
    as_root mv "$root.new" "$root"
  fi
  # The system tables, made once; `start` copies them.
  as_root rm -rf "$root/template.new"
  as_root chroot "$root" /usr/sbin/mysqld --no-defaults --user=root --initialize-insecure \
    --datadir=/template.new --secure-file-priv=NULL --mysqlx=OFF --disable-log-bin --innodb-redo-log-capacity=64M \
    >"$state/log" 2>&1 9>&- </dev/null || show_log_and_die "mysqld --initialize-insecure failed"
  as_root mv "$root/template.new" "$root/template"
}

start_it() {
  can_be_root || die "needs root: the server runs in a chroot"
  local data port tries
  if [ ! -s "$state/data" ]; then
    data=$(as_root mktemp -d "$root/data.XXXXXXXX")
    echo "$data" >"$state/data"
    as_root cp -r "$root/template/." "$data"
    as_root tee "$data/init.sql" >/dev/null <<'SQL'
CREATE USER IF NOT EXISTS gotel@'%' IDENTIFIED WITH caching_sha2_password BY 'gotel';
GRANT ALL PRIVILEGES ON *.* TO gotel@'%' WITH GRANT OPTION;
SQL
  fi
  data=/$(basename "$(cat "$state/data")")
  # A killed server leaves these, and the next one believes them as long as the process is not reaped.
  as_root rm -f "$root$data/server.sock" "$root$data/server.sock.lock" "$root$data/server.pid"
  for tries in 1 2 3; do
    port=$(cat "$state/port" 2>/dev/null || free_port)
    launch_as_root chroot "$root" /usr/sbin/mysqld --no-defaults --user=root --datadir="$data" \
      --port="$port" --bind-address=127.0.0.1 --socket=server.sock --pid-file=server.pid \
      --init-file="$data/init.sql" --skip-name-resolve --disable-log-bin --performance-schema=OFF \
      --secure-file-priv=NULL --mysqlx=OFF --max-connections=500 --innodb-buffer-pool-size=128M \
      --innodb-redo-log-capacity=64M --innodb-flush-log-at-trx-commit=1
    if await_ready "$port" 60 "ready for connections"; then
      echo "$port" >"$state/port"
      echo "export GOTEL_TEST_MYSQL_URL=mysql://gotel:gotel@127.0.0.1:$port/" >"$state/exports"
      return
    fi
    end_process
  done
  show_log_and_die "mysqld did not start"
}

forget_data() {
  local data
  data=$(cat "$state/data" 2>/dev/null) || return 0
  case "$data" in "$root"/data.*) as_root rm -rf "$data" ;; esac
}

main "$@"
