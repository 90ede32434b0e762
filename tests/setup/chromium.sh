#!/usr/bin/env bash
# Debian's Chromium, driven over WebDriver by Debian's ChromeDriver on a private port.
# Prints GOTEL_TEST_WEBDRIVER_URL; stands aside where that is already set. See lib.sh for the verbs.
component=chromium
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

stand_aside() { [ -n "${GOTEL_TEST_WEBDRIVER_URL:-}" ]; }

install() {
  [ -x /usr/bin/chromium ] && [ -x /usr/bin/chromedriver ] && return
  lock_installs
  need_packages chromium chromium-driver fonts-dejavu-core
}

start_it() {
  local port tries
  for tries in 1 2 3; do
    port=$(cat "$state/port" 2>/dev/null || free_port)
    launch /usr/bin/chromedriver --port="$port" --log-level=WARNING
    if await_ready "$port" 30; then
      echo "$port" >"$state/port"
      echo "export GOTEL_TEST_WEBDRIVER_URL=http://127.0.0.1:$port/" >"$state/exports"
      return
    fi
    end_process
  done
  show_log_and_die "chromedriver did not start"
}

forget_data() { :; }

main "$@"
