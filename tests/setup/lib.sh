# shellcheck shell=bash disable=SC2154,SC2016
# What the setup scripts share; sourced, never run, by a script that has set `component`.
#
# A component is a program the tests need and the repository does not contain. Its script answers to
#   install  fetch what is missing (does nothing, quietly, when nothing is)
#   start    start it privately and print `export NAME=value` lines; started already: print them again;
#            died meanwhile: start it again on the same port and the same data
#   kill     end it, by the process id that `start` recorded, as a crash would; its data stays
#   stop     end it likewise, and remove its data
#   pid      print that process id
#
# Two folders:
#   GOTEL_TEST_CACHE  what is kept between runs (default ~/.cache/gotel-test)
#   GOTEL_TEST_STATE  what belongs to the servers running now (default target/setup in this clone);
#                     a run with a folder of its own has servers of its own
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${GOTEL_TEST_CACHE:-${HOME:-/tmp}/.cache/gotel-test}
state=${GOTEL_TEST_STATE:-$repo/target/setup}/$component
mkdir -p "$cache" "$state"

die() {
  echo "tests/setup/$component.sh: $*" >&2
  exit 1
}

# Runs a command as root: directly, or through a sudo that asks nothing.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

can_be_root() {
  [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null
}

# The lock lasts as long as this script: two runs on one machine never install at the same time. Held already,
# also by the shell around this one, it is not taken again: that would wait for itself.
lock_installs() {
  [ -z "${installs_locked:-}" ] || return 0
  exec 9>"$cache/install.lock"
  flock -w 900 9 || die "another run has been installing for 15 minutes"
  installs_locked=1
}

# need_packages PACKAGE…: installs the Debian packages that are missing. No service of theirs starts.
need_packages() {
  local missing=() package log=$state/apt.log
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null)" = "ii " ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  can_be_root || die "needs root for this once; please run: apt-get install ${missing[*]}"
  echo "tests/setup: installing ${missing[*]}" >&2
  local install=(env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -qq --yes
    --no-install-recommends -o DPkg::Lock::Timeout=600 "${missing[@]}")
  if ! as_root "${install[@]}" >"$log" 2>&1 9>&- </dev/null; then
    # The package lists were missing or older than the archive: fetch them and try once more.
    as_root apt-get update -qq >>"$log" 2>&1 9>&- </dev/null || true
    as_root "${install[@]}" >>"$log" 2>&1 9>&- </dev/null || {
      tail -n 20 "$log" >&2
      die "apt-get install ${missing[*]} failed"
    }
  fi
}

# wait_for SECONDS WHAT COMMAND…: polls until the command succeeds; past the deadline, says WHAT was awaited.
wait_for() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    [ $SECONDS -lt $deadline ] || {
      echo "tests/setup/$component.sh: waited in vain for $what" >&2
      return 1
    }
    sleep 0.05
  done
}

port_answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# A port nobody listens on, below the range that outgoing connections take theirs from.
free_port() {
  local port
  while :; do
    port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
    port_answers "$port" || break
  done
  echo "$port"
}

# When the process began, in clock ticks since boot: tells a process from a later one with the same id.
began() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

running() {
  [ -s "$state/pid" ] || return 1
  local pid was
  read -r pid was <"$state/pid"
  [ -n "${was:-}" ] && [ "$(began "$pid")" = "$was" ] || return 1
  # A process whose first thread is a zombie has ended only when its other threads have: until then it
  # holds its port and its files.
  local threads=(/proc/"$pid"/task/*)
  [ ${#threads[@]} -gt 1 ] || ! grep -qs '^State:[[:space:]]*Z' "/proc/$pid/status"
}

# launch COMMAND…: starts it in a session of its own, output to $state/log, and records who it is.
# launch_as_root does so as root.
launch() { launch_by env "$@"; }

launch_as_root() {
  if [ "$(id -u)" = 0 ]; then launch_by env "$@"; else launch_by "sudo -n" "$@"; fi
}

launch_by() {
  local by=$1
  shift
  rm -f "$state/pid"
  [ ! -e "$state/log" ] || mv "$state/log" "$state/log.before"
  # shellcheck disable=SC2086  # two words on purpose
  setsid $by sh -c 'echo $$ >"$0.new"; exec "$@"' "$state/pid" "$@" </dev/null >>"$state/log" 2>&1 9>&- &
  wait_for 10 "the process to begin" test -s "$state/pid.new"
  local pid
  pid=$(cat "$state/pid.new")
  echo "$pid $(began "$pid")" >"$state/pid"
  rm -f "$state/pid.new"
}

dead_or_ready() {
  ! running || { { [ -z "$2" ] || grep -qs -- "$2" "$state/log"; } && port_answers "$1"; }
}

# await_ready PORT SECONDS [TEXT]: until the launched process has logged the text and answers at the port; it
# dying is a failure at once. A database opens its port before it knows that it can start.
await_ready() {
  wait_for "$2" "port $1 to answer" dead_or_ready "$1" "${3:-}" && running
}

show_log_and_die() {
  tail -n 30 "$state/log" >&2 || true
  die "$1"
}

# The processes of a session: the one launched, which leads it, and those it started.
# A process that ends between being listed and being read is none of ours.
session() { { cat /proc/[0-9]*/stat 2>/dev/null || true; } | sed 's/ (.*) / - /' | awk -v led_by="$1" '$6 == led_by { print $1 }'; }

# Ends the recorded process and what it started, and waits until it is gone. SIGKILL: it works on a stopped
# process too, and nobody needs the data.
end_process() {
  if running; then
    local pid
    read -r pid _ <"$state/pid"
    local all
    all=$(session "$pid")
    # shellcheck disable=SC2086  # one word a process
    kill -KILL $all 2>/dev/null || as_root kill -KILL $all 2>/dev/null || true
    wait_for 20 "process $pid to end" not_running
  fi
  rm -f "$state/pid"
}

not_running() { ! running; }

# The verbs every component answers to; each defines install, start_it, and forget_data.
main() {
  case "${1:-}" in
  install) install ;;
  start)
    if stand_aside; then exit 0; fi
    install
    running || start_it
    cat "$state/exports"
    ;;
  kill) end_process ;;
  stop)
    end_process
    forget_data
    rm -rf "$state"
    ;;
  pid)
    running || die "not running"
    cut -d' ' -f1 "$state/pid"
    ;;
  *)
    echo "usage: tests/setup/$component.sh install|start|kill|stop|pid" >&2
    exit 2
    ;;
  esac
}
