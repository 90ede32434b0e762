#!/usr/bin/env bash
# Reads lines FILE=COMMAND and fails where COMMAND does not print exactly what the committed FILE holds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
status=0
while IFS='=' read -r file command; do
  [ -n "$file" ] || continue
  if ! bash -c "$command" </dev/null | diff -u "$file" - >&2; then
    echo "$file is out of date; please run: $command >$file" >&2
    status=1
  fi
done
exit $status
