#!/usr/bin/env bash
# A mail server that is not ours: Debian's aiosmtpd, which keeps what it accepts in a Maildir.
# Prints GOTEL_TEST_SMTP (host:port) and GOTEL_TEST_SMTP_MAILDIR (its new/ holds one file a mail, as received,
# after the lines X-Peer, X-MailFrom and X-RcptTo); stands aside where GOTEL_TEST_SMTP is already set.
# See lib.sh for the verbs.
component=python-smtp
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

stand_aside() { [ -n "${GOTEL_TEST_SMTP:-}" ]; }

# Debian's own python, whatever other python comes first on the path.
install() {
  /usr/bin/python3 -c 'import aiosmtpd' 2>/dev/null && return
  lock_installs
  need_packages python3-aiosmtpd
}

start_it() {
  local port tries
  for tries in 1 2 3; do
    port=$(cat "$state/port" 2>/dev/null || free_port)
    launch /usr/bin/python3 -m aiosmtpd --nosetuid --listen "127.0.0.1:$port" \
      --class aiosmtpd.handlers.Mailbox "$state/mail"
    if await_ready "$port" 30; then
      echo "$port" >"$state/port"
      {
        echo "export GOTEL_TEST_SMTP=127.0.0.1:$port"
        echo "export GOTEL_TEST_SMTP_MAILDIR='$state/mail'"
      } >"$state/exports"
      return
    fi
    end_process
  done
  show_log_and_die "aiosmtpd did not start"
}

forget_data() { :; }

main "$@"
