#!/usr/bin/env bash
# Two Kubernetes clusters without machines: for each an etcd, a kube-apiserver and a kube-controller-manager on
# loopback, with RBAC as in production. There is no kubelet: a pod stays Pending until a test plays its part.
# Prints GOTEL_TEST_KUBECONFIGS, one file a cluster with commas between, and KUBEBUILDER_ASSETS, the folder of kubectl
# and helm; stands aside where the first is set. GOTEL_TEST_CLUSTERS="a" starts one only.
#
# Beside the verbs of lib.sh, which speak of all clusters here (C is a or b; P is etcd, kube-apiserver or
# kube-controller-manager):
#   kill C P      end that process as a crash would; `start` starts it again on the same port and the same data
#   pid C P       print its process id
#
# The programs are built from Go modules (tests/setup/controlplane/go.mod), once for each content of go.mod and
# go.sum, and kept. That takes 15 minutes on two cores. Where KUBEBUILDER_ASSETS is set they are taken from there, or
# from the PATH, and nothing is built.
component=controlplane
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

read -ra clusters <<<"${GOTEL_TEST_CLUSTERS:-a b}"
module=$repo/tests/setup/controlplane
programs=(etcd kube-apiserver kube-controller-manager kubectl helm)
plane=$state

# What the tests need of the controller manager; the others want machines, clouds or disks.
controllers=namespace-controller,serviceaccount-controller,serviceaccount-token-controller
controllers+=,root-ca-certificate-publisher-controller,garbage-collector-controller,resourcequota-controller
controllers+=,job-controller,cronjob-controller,ttl-after-finished-controller,deployment-controller
controllers+=,replicaset-controller,statefulset-controller,disruption-controller,endpointslice-controller
controllers+=,clusterrole-aggregation-controller,validatingadmissionpolicy-status-controller

stand_aside() { [ -n "${GOTEL_TEST_KUBECONFIGS:-}" ]; }

# --- the programs ---

built() { echo "$cache/controlplane-$(cat "$module/go.mod" "$module/go.sum" | sha256sum | cut -c1-16)"; }

program() {
  local path=${KUBEBUILDER_ASSETS:-$(built)}/$1
  [ -x "$path" ] || path=$(command -v "$1") || die "$1 is neither in $KUBEBUILDER_ASSETS nor on the PATH"
  echo "$path"
}

install() {
  local program
  command -v openssl >/dev/null || need_packages openssl
  if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
    for program in "${programs[@]}"; do program "$program" >/dev/null; done
    return
  fi
  [ ! -e "$(built)/complete" ] || return 0
  # Of its own, and with more patience than lib.sh's: no other component has to wait for a quarter of an hour.
  (
    flock -w 5400 8 || die "another run has been building for 90 minutes"
    [ -e "$(built)/complete" ] || build "$(built)"
  ) 8>"$cache/controlplane.lock"
}

# new_enough GO VERSION: whether the Go at hand is at least that new.
new_enough() {
  local have
  have=$("$1" env GOVERSION 2>/dev/null) || return
  [ "$(printf '%s\n' "$2" "${have#go}" | sort -V | head -n 1)" = "$2" ]
}

# Prints the path of a Go that go.mod is content with: the one at hand, or the toolchain that Go's own module proxy
# has, fetched by whatever Go there is, Debian's if there is none. Its checksum is verified like any module's.
go_to_build_with() {
  local want go fetched
  want=$(sed -n 's/^go //p' "$module/go.mod")
  export GOTOOLCHAIN=local
  for go in "$(command -v go || true)" /usr/local/go/bin/go; do
    if [ -x "$go" ] && new_enough "$go" "$want"; then
      echo "$go"
      return
    fi
  done
  go=$(command -v go || echo /usr/bin/go)
  [ -x "$go" ] || (lock_installs && need_packages golang-go ca-certificates)
  echo "tests/setup: fetching Go $want" >&2
  fetched=$(cd "$plane" && GO111MODULE=on GOFLAGS= "$go" mod download -json \
    "golang.org/toolchain@v0.0.1-go$want.$("$go" env GOOS)-$("$go" env GOARCH)" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  [ -n "$fetched" ] || die "Go $want could not be fetched"
  # Modules hold no programs, so the cache keeps them as plain read-only files.
  chmod -R u+w "$fetched/bin" "$fetched/pkg/tool"
  chmod -R a+x "$fetched/bin" "$fetched/pkg/tool"
  echo "$fetched/bin/go"
}

# build FOLDER: whatever is missing there; interrupted, the next one goes on.
build() {
  local into=$1 go kubernetes helm version program package flags
  go=$(go_to_build_with)
  mkdir -p "$into"
  echo "tests/setup: building Kubernetes, etcd and Helm (a quarter of an hour, once)" >&2
  cd "$module"
  export CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS="${GOFLAGS:-} -trimpath -buildvcs=false"
  kubernetes=$("$go" list -m -f '{{.Version}}' k8s.io/kubernetes)
  helm=$("$go" list -m -f '{{.Version}}' helm.sh/helm/v4)
  version=
  # Both say what they are: one asks the other.
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    version+=" -X $package.gitVersion=$kubernetes -X $package.gitMajor=$(cut -d. -f1 <<<"${kubernetes#v}")"
    version+=" -X $package.gitMinor=$(cut -d. -f2 <<<"$kubernetes") -X $package.gitTreeState=clean -X $package.gitCommit=gomod"
  done
  for program in "${programs[@]}"; do
    [ ! -x "$into/$program" ] || continue
    case $program in
    etcd) package=go.etcd.io/etcd/server/v3 flags="-X go.etcd.io/etcd/api/v3/version.GitSHA=gomod" ;;
    helm)
      package=helm.sh/helm/v4/cmd/helm
      flags="-X helm.sh/helm/v4/internal/version.version=$helm -X helm.sh/helm/v4/internal/version.gitTreeState=clean"
      ;;
    *) package=k8s.io/kubernetes/cmd/$program flags=$version ;;
    esac
    "$go" build -ldflags "-s -w $flags" -o "$into/$program.new" "$package" >"$plane/build.log" 2>&1 8>&- || {
      tail -n 20 "$plane/build.log" >&2
      die "$program could not be built"
    }
    mv "$into/$program.new" "$into/$program"
    echo "tests/setup: $program is built (after ${SECONDS}s)" >&2
  done
  touch "$into/complete"
  # Those of other versions serve nobody any more.
  for program in "$cache"/controlplane-*; do [ "$program" = "$into" ] || rm -rf "$program"; done
}

# --- the clusters ---

# on CLUSTER PROCESS COMMAND…: with what lib.sh keeps of a component (pid, log) being that process's.
on() {
  (
    cluster=$plane/$1 state=$plane/$1/$2
    mkdir -p "$state"
    shift 2
    "$@"
  )
}

make_keys() {
  [ ! -d "$cluster/keys" ] || return 0
  local keys=$cluster/keys.new
  rm -rf "$keys"
  mkdir -p "$keys"
  chmod 700 "$keys"
  openssl genrsa -out "$keys/accounts.key" 2048 2>/dev/null
  openssl rsa -in "$keys/accounts.key" -pubout -out "$keys/accounts.pub" 2>/dev/null
  printf '%s,admin,admin,"system:masters"\n%s,system:kube-controller-manager,manager,""\n' \
    "$(openssl rand -hex 16 | tee "$keys/admin")" "$(openssl rand -hex 16 | tee "$keys/manager")" >"$keys/tokens.csv"
  mv "$keys" "$cluster/keys"
}

# kubeconfig FILE USER: how that user reaches the cluster.
kubeconfig() {
  cat >"$1.new" <<YAML
apiVersion: v1
kind: Config
current-context: it
contexts: [{name: it, context: {cluster: it, user: it}}]
clusters: [{name: it, cluster: {server: "https://127.0.0.1:$(cat "$cluster/port")", certificate-authority: "$cluster/keys/ca.crt"}}]
users: [{name: it, user: {token: "$(cat "$cluster/keys/$2")"}}]
YAML
  chmod 600 "$1.new"
  mv "$1.new" "$1"
}

start_etcd() {
  local port tries
  for tries in 1 2 3; do
    port=$(cat "$state/port" 2>/dev/null || free_port)
    launch "$(program etcd)" --name=it --data-dir="$state/data" --listen-client-urls="http://127.0.0.1:$port" \
      --advertise-client-urls="http://127.0.0.1:$port" --listen-peer-urls=http://127.0.0.1:0 \
      --unsafe-no-fsync --log-level=warn
    if await_ready "$port" 60; then
      echo "$port" >"$state/port"
      return
    fi
    end_process
  done
  show_log_and_die "etcd did not start"
}

start_apiserver() {
  local port tries
  for tries in 1 2 3; do
    port=$(cat "$cluster/port" 2>/dev/null || free_port)
    launch "$(program kube-apiserver)" --etcd-servers="http://127.0.0.1:$(cat "$cluster/etcd/port")" \
      --bind-address=127.0.0.1 --secure-port="$port" --advertise-address=127.0.0.1 --endpoint-reconciler-type=none \
      --cert-dir="$cluster/keys" --token-auth-file="$cluster/keys/tokens.csv" --authorization-mode=RBAC \
      --service-cluster-ip-range=10.0.0.0/24 --allow-privileged=true --profiling=false \
      --service-account-issuer=https://kubernetes.default.svc.cluster.local \
      --service-account-key-file="$cluster/keys/accounts.pub" \
      --service-account-signing-key-file="$cluster/keys/accounts.key" --shutdown-delay-duration=0s
    if await_ready "$port" 60; then
      echo "$port" >"$cluster/port"
      # The certificate it has made for itself stands first in this file, the authority's second.
      awk '/BEGIN/ { n++ } n == 2' "$cluster/keys/apiserver.crt" >"$cluster/keys/ca.crt"
      kubeconfig "$cluster/kubeconfig" admin
      wait_for 90 "kube-apiserver to be ready" ended_or is_ready && running && return
    fi
    end_process
  done
  show_log_and_die "kube-apiserver did not start"
}

ended_or() { ! running || "$@"; }

ask() { "$(program kubectl)" --kubeconfig="$cluster/kubeconfig" --cache-dir="$cluster/cache" --request-timeout=5s "$@"; }

is_ready() { [ "$(ask get --raw=/readyz 2>/dev/null)" = ok ]; }

has_accounts() { ask get serviceaccount -n default default >/dev/null 2>&1; }

start_manager() {
  kubeconfig "$state/kubeconfig" manager
  launch "$(program kube-controller-manager)" --kubeconfig="$state/kubeconfig" --secure-port=0 --leader-elect=false \
    --use-service-account-credentials=true --service-account-private-key-file="$cluster/keys/accounts.key" \
    --root-ca-file="$cluster/keys/ca.crt" --controllers="$controllers" --kube-api-qps=200 --kube-api-burst=400
  wait_for 60 "the default ServiceAccount" ended_or has_accounts && running ||
    show_log_and_die "kube-controller-manager did not start"
}

start_cluster() {
  on "$1" . make_keys
  on "$1" etcd unless_running start_etcd
  on "$1" kube-apiserver unless_running start_apiserver
  on "$1" kube-controller-manager unless_running start_manager
}

unless_running() { running || "$@"; }

start_all() {
  local each waiting=() files=()
  for each in "${clusters[@]}"; do
    start_cluster "$each" &
    waiting+=($!)
    files+=("$plane/$each/kubeconfig")
  done
  for each in "${waiting[@]}"; do wait "$each"; done
  (
    IFS=,
    echo "export GOTEL_TEST_KUBECONFIGS=${files[*]}"
    echo "export KUBEBUILDER_ASSETS=$(dirname "$(program kubectl)")"
  ) >"$plane/exports"
}

end_all() {
  local each process
  for each in "${clusters[@]}"; do
    # The manager first: it would only complain of the others' absence.
    for process in kube-controller-manager kube-apiserver etcd; do
      [ ! -d "$plane/$each/$process" ] || on "$each" "$process" end_process
    done
  done
}

# known CLUSTER PROCESS: whether there is such a one, started at some time.
known() {
  case $2 in
  etcd | kube-apiserver | kube-controller-manager) ;;
  *) die "there is no process $2: name etcd, kube-apiserver or kube-controller-manager" ;;
  esac
  [ -d "$plane/$1/$2" ] || die "$2 of cluster $1 was not started"
}

case "${1:-} ${2:-}" in
"install ") install ;;
"start ")
  if stand_aside; then exit 0; fi
  install
  start_all
  cat "$plane/exports"
  ;;
"kill ") end_all ;;
"kill "?*)
  known "$2" "${3:-}"
  on "$2" "$3" end_process
  ;;
"stop ")
  end_all
  rm -rf "$plane"
  ;;
"pid "?*)
  known "$2" "${3:-}"
  on "$2" "$3" running || die "$3 of cluster $2 is not running"
  on "$2" "$3" cut -d' ' -f1 "$plane/$2/$3/pid"
  ;;
*)
  echo "usage: tests/setup/controlplane.sh install|start|kill [C P]|stop|pid C P" >&2
  exit 2
  ;;
esac
