#!/bin/sh
# Runs a job and tells GoTel that it started, and how it ended, with the end of its output.
#
#   run-with-checkin.sh APP COMPONENT COMMAND [ARG…]
#
# The job's own exit code is passed on; GoTel being away changes nothing for the job. GOTEL_URL says where
# GoTel is, GOTEL_TOKEN (optional) the token for it.
set -u

if [ $# -lt 3 ]; then
  echo "usage: $0 APP COMPONENT COMMAND [ARG...]" >&2
  exit 64
fi
app=$1 component=$2
shift 2
base=${GOTEL_URL:-http://127.0.0.1:8080}/checkin/$app/$component
# One id per run: overlapping runs are told apart.
rid=$(cat /proc/sys/kernel/random/uuid 2>/dev/null || echo "$$-$(date +%s)")
output=$(mktemp) || exit 70
trap 'rm -f "$output"' EXIT

tell() { # WHAT, then curl's further arguments
  what=$1
  shift
  if [ -n "${GOTEL_TOKEN:-}" ]; then
    set -- -H "Authorization: Bearer $GOTEL_TOKEN" "$@"
  fi
  curl -fsS -m 10 --retry 5 -o /dev/null "$@" "$base/$what?rid=$rid" ||
    echo "$0: GoTel did not take the $what of $app/$component" >&2
}

tell start
"$@" >"$output" 2>&1
code=$?
cat "$output"
# 0 is a good run, anything else a failure; GoTel keeps the last 10 kB of the output.
tail -c 10000 "$output" | tell "$code" --data-binary @-
exit "$code"
