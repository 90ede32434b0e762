#!/usr/bin/env bash
# A Galera cluster of three MariaDB nodes from Debian, all on this machine: own data folders, own ports, durable
# commits. Prints GOTEL_TEST_GALERA_URLS, the three nodes' URLs with commas between; stands aside where that is set.
#
# Beside the verbs of lib.sh, which speak of all three nodes here:
#   kill N        end node N as a crash would
#   start-node N  start node N again; returns when it answers, which is not when it has caught up
#   pid N         print the process id of node N
#
# No node ever copies another's data: all begin as copies of one, and what a node missed while it was away comes out
# of the others' caches of write sets (see wsrep_sst_cache). So neither rsync nor a backup program is needed.
component=galera
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

nodes=(1 2 3)
cluster=$state

stand_aside() { [ -n "${GOTEL_TEST_GALERA_URLS:-}" ]; }

install() {
  [ -x /usr/sbin/mariadbd ] && [ -x /usr/bin/mariadb-install-db ] && [ -x /usr/bin/mariadb ] &&
    [ -e /usr/lib/galera/libgalera_smm.so ] && return
  lock_installs
  need_packages mariadb-server-core mariadb-client-core galera-4
}

# on_node N COMMAND…: with what lib.sh keeps of a component (pid, log) being that node's.
on_node() {
  (
    state=$cluster/node$1
    mkdir -p "$state"
    shift
    "$@"
  )
}

# The data that all nodes begin with: that of a cluster of one which was asked to end.
template() {
  local made=$cache/galera-$(dpkg-query -W -f '${Version}' mariadb-server-core | tr -c 'a-zA-Z0-9.\n' _)
  if [ ! -d "$made" ]; then
    lock_installs
    [ -d "$made" ] || on_node 0 make_template "$made" >&2
  fi
  echo "$made"
}

make_template() {
  local pid
  mkdir -p "$state/tmp"
  mariadb-install-db --no-defaults --user="$(id -un)" --datadir="$state/data" --skip-test-db \
    --auth-root-authentication-method=normal --innodb-log-file-size=32M >"$state/log" 2>&1 </dev/null ||
    show_log_and_die "mariadb-install-db failed"
  choose_ports >"$state/ports"
  launch_node --wsrep-cluster-address=gcomm:// || show_log_and_die "the first node of all did not start"
  ask "CREATE USER gotel@'%' IDENTIFIED BY 'gotel'; GRANT ALL PRIVILEGES ON *.* TO gotel@'%' WITH GRANT OPTION" root ||
    show_log_and_die "the first node of all took no user"
  read -r pid _ <"$state/pid"
  kill -TERM "$pid"
  wait_for 60 "the first node of all to end" not_running
  grep -q '^seqno: *[0-9]' "$state/data/grastate.dat" || show_log_and_die "the first node of all did not end in order"
  rm -f "$state/data/galera.cache" "$state/data/gvwstate.dat" "$state/data"/server.*
  mv "$state/data" "$1"
}

make_data() {
  local from node
  [ ! -d "$cluster/made" ] || return 0
  # Two clusters never take each other for one.
  tr -d - </proc/sys/kernel/random/uuid | cut -c1-24 >"$cluster/name"
  from=$(template)
  for node in "${nodes[@]}"; do
    rm -rf "$cluster/node$node"
    mkdir -p "$cluster/node$node/tmp"
    cp -r "$from" "$cluster/node$node/data"
    choose_ports >"$cluster/node$node/ports"
  done
  mkdir "$cluster/made"
}

# For clients, for the group, and for what a node missed.
choose_ports() { echo "$(free_port) $(free_port) $(free_port)"; }

group_port() { cut -d' ' -f2 "$cluster/node$1/ports"; }

group_address() {
  local node addresses=()
  for node in "${nodes[@]}"; do addresses+=("127.0.0.1:$(group_port "$node")"); done
  (
    IFS=,
    echo "gcomm://${addresses[*]}"
  )
}

# Where a node's data stands: the others send it what came after. One that was killed has to look.
position() {
  local group at
  group=$(sed -n 's/^uuid: *//p' "$state/data/grastate.dat" 2>/dev/null) || true
  at=$(sed -n 's/^seqno: *\([0-9]\)/\1/p' "$state/data/grastate.dat" 2>/dev/null) || true
  if [ -n "$at" ]; then
    echo "$group:$at"
    return
  fi
  /usr/sbin/mariadbd --no-defaults --user="$(id -un)" --datadir="$state/data" --tmpdir="$state/tmp" \
    --innodb-buffer-pool-size=32M --innodb-log-file-size=32M --binlog-format=ROW --wsrep-on=ON \
    --wsrep-provider=/usr/lib/galera/libgalera_smm.so --skip-networking --socket=server.sock --pid-file=server.pid \
    --wsrep-cluster-address=gcomm:// --wsrep-recover >"$state/recovery" 2>&1 </dev/null || true
  sed -n 's/.*WSREP: Recovered position:* *//p' "$state/recovery" | tail -n 1
}

# launch_node [OPTION…]: of the node that `state` is of.
launch_node() {
  local port group ist at
  read -r port group ist <"$state/ports"
  rm -f "$state/data"/server.* # of a killed server
  at=$(position)
  launch env PATH="$repo/tests/setup:$PATH" /usr/sbin/mariadbd --no-defaults --user="$(id -un)" \
    --datadir="$state/data" --tmpdir="$state/tmp" --port="$port" --bind-address=127.0.0.1 --socket=server.sock \
    --pid-file=server.pid --skip-name-resolve --performance-schema=OFF --character-set-server=utf8mb4 \
    --max-connections=200 --innodb-buffer-pool-size=32M --innodb-log-file-size=32M \
    --innodb-flush-log-at-trx-commit=1 --innodb-autoinc-lock-mode=2 --default-storage-engine=InnoDB \
    --binlog-format=ROW --skip-log-bin --wsrep-on=ON --wsrep-provider=/usr/lib/galera/libgalera_smm.so \
    --wsrep-cluster-name="$(cat "$cluster/name")" --wsrep-node-name="$(basename "$state")" \
    --wsrep-node-address=127.0.0.1 --wsrep-start-position="$at" --wsrep-sst-method=cache \
    --wsrep-provider-options="gmcast.listen_addr=tcp://127.0.0.1:$group;ist.recv_addr=127.0.0.1:$ist;gcache.size=16M" \
    "$@"
  await_ready "$port" 60 "ready for connections"
}

# ask SQL [USER]: asks the node that `state` is of; fails when it does not answer.
ask() {
  local port user=(--user=gotel --password=gotel)
  port=$(cut -d' ' -f1 "$state/ports")
  [ -z "${2:-}" ] || user=(--user="$2")
  timeout 5 mariadb --no-defaults --batch --skip-column-names --host=127.0.0.1 --port="$port" "${user[@]}" \
    --execute="$1" 2>/dev/null
}

is_synced() {
  [ "$(ask "SELECT GROUP_CONCAT(variable_value ORDER BY variable_name SEPARATOR ' ') \
FROM information_schema.global_status WHERE variable_name IN \
('wsrep_cluster_size', 'wsrep_cluster_status', 'wsrep_local_state_comment')")" = "3 Primary Synced" ]
}

any_running() {
  local node
  for node in "${nodes[@]}"; do
    on_node "$node" running && return
  done
  return 1
}

all_running() {
  local node
  for node in "${nodes[@]}"; do
    on_node "$node" running || return
  done
}

# Ports that somebody else took meanwhile are chosen anew, as long as no node is there to know the old ones.
start_cluster() {
  local tries node
  for tries in 1 2 3; do
    make_data
    if start_nodes; then
      local urls=()
      for node in "${nodes[@]}"; do
        urls+=("mysql://gotel:gotel@127.0.0.1:$(cut -d' ' -f1 "$cluster/node$node/ports")/")
      done
      (
        IFS=,
        echo "export GOTEL_TEST_GALERA_URLS=${urls[*]}"
      ) >"$cluster/exports"
      return
    fi
    end_nodes
    [ ! -e "$cluster/exports" ] || break
    rm -rf "$cluster/made"
  done
  for node in "${nodes[@]}"; do tail -n 30 "$cluster/node$node/log" >&2 || true; done
  die "the cluster did not start"
}

start_nodes() {
  local node waiting=() each
  if ! any_running; then
    node=$(most_advanced)
    sed -i 's/^safe_to_bootstrap:.*/safe_to_bootstrap: 1/' "$cluster/node$node/data/grastate.dat"
    on_node "$node" launch_node --wsrep-cluster-address="$(group_address)" --wsrep-new-cluster || return
  fi
  for node in "${nodes[@]}"; do
    on_node "$node" running && continue
    on_node "$node" launch_node --wsrep-cluster-address="$(group_address)" &
    waiting+=($!)
  done
  for each in "${waiting[@]}"; do wait "$each" || return; done
  for node in "${nodes[@]}"; do
    on_node "$node" wait_for 60 "node $node to be one of three" is_synced || return
  done
}

# The node that begins the cluster when all are down: the one that lacks nothing.
most_advanced() {
  local node at
  for node in "${nodes[@]}"; do
    at=$(on_node "$node" position)
    echo "${at##*:} $node"
  done | sort -k1,1nr -k2,2n | head -n 1 | cut -d' ' -f2
}

end_nodes() {
  local node
  for node in "${nodes[@]}"; do on_node "$node" end_process; done
}

case "${1:-} ${2:-}" in
"start ")
  if stand_aside; then exit 0; fi
  install
  all_running || start_cluster
  cat "$cluster/exports"
  ;;
"kill ") end_nodes ;;
"kill "[123]) on_node "$2" end_process ;;
"start-node "[123])
  on_node "$2" running || on_node "$2" launch_node --wsrep-cluster-address="$(group_address)" || on_node "$2" show_log_and_die "node $2 did not start"
  ;;
"stop ")
  end_nodes
  rm -rf "$cluster"
  ;;
"pid ")
  all_running || die "not running"
  for node in "${nodes[@]}"; do cut -d' ' -f1 "$cluster/node$node/pid"; done
  ;;
"pid "[123])
  on_node "$2" running || die "node $2 is not running"
  cut -d' ' -f1 "$cluster/node$2/pid"
  ;;
"install ") install ;;
*)
  echo "usage: tests/setup/galera.sh install|start|kill [N]|start-node N|stop|pid [N]" >&2
  exit 2
  ;;
esac
