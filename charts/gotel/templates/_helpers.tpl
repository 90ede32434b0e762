{{- define "gotel.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* At most 40 characters: names of pods and Services are made of it. */}}
{{- define "gotel.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "gotel.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "gotel.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Never changes over the life of a release: selectors are immutable. */}}
{{- define "gotel.selectorLabels" -}}
app.kubernetes.io/name: {{ include "gotel.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "gotel.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "gotel.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: monitor
app.kubernetes.io/part-of: gotel
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Without versions: another chart of the same content restarts nothing. */}}
{{- define "gotel.podLabels" -}}
{{ include "gotel.selectorLabels" . }}
app.kubernetes.io/component: monitor
app.kubernetes.io/part-of: gotel
{{- with mustMerge (deepCopy .Values.podLabels) .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "gotel.serviceAccountName" -}}
{{- default (ternary (include "gotel.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name }}
{{- end }}

{{- define "gotel.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}
{{- end }}

{{/* Where other pods of this cluster reach pages and API. */}}
{{- define "gotel.url" -}}
http://{{ include "gotel.fullname" . }}.{{ .Release.Namespace }}.svc:{{ .Values.service.port }}
{{- end }}

{{/* What no schema can say: values that do not go together. */}}
{{- define "gotel.check" -}}
{{- $sqlite := .Values.database.sqlite.enabled }}
{{- $mysql := .Values.database.existingSecret.name }}
{{- if and $sqlite $mysql }}
{{- fail "database: both sqlite.enabled and existingSecret.name are set: keep one of them" }}
{{- end }}
{{- if not (or $sqlite $mysql) }}
{{- fail "database: set database.existingSecret.name to a Secret with the URL of a MySQL or MariaDB, or database.sqlite.enabled=true with replicas=1" }}
{{- end }}
{{- if and $sqlite (gt (int .Values.replicas) 1) }}
{{- fail (printf "replicas: SQLite serves one process, and replicas is %d: set replicas=1, or database.existingSecret.name to a Secret with the URL of a MySQL or MariaDB" (int .Values.replicas)) }}
{{- end }}
{{- if and $sqlite .Values.peers.existingSecret.name }}
{{- fail "peers: SQLite serves one replica, which has no peers: remove peers.existingSecret.name" }}
{{- end }}
{{- if and .Values.peers.others (not .Values.peers.existingSecret.name) }}
{{- fail "peers.others: set peers.existingSecret.name to a Secret that is the same in all clusters" }}
{{- end }}
{{- if and (eq .Values.auth.mode "tokens") (not .Values.auth.tokens) }}
{{- fail "auth.tokens: is empty, so nobody could check in: name a Secret with a token, or set auth.mode=none if everybody who reaches the Service may do everything" }}
{{- end }}
{{- if and (eq .Values.auth.mode "none") .Values.auth.tokens }}
{{- fail "auth.tokens: are set, and auth.mode is none: remove one of the two" }}
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled (eq .Values.auth.mode "tokens") (not .Values.metrics.serviceMonitor.tokenSecret.name) }}
{{- fail "metrics.serviceMonitor.tokenSecret.name: is needed, as figures are read with a token of scope read" }}
{{- end }}
{{- $names := dict }}
{{- range .Values.alerters }}
{{- if hasKey $names .name }}{{ fail (printf "alerters: %s is there twice" .name) }}{{ end }}
{{- $_ := set $names .name true }}
{{- end }}
{{- end }}

{{/* Where a Secret is mounted. */}}
{{- define "gotel.secrets" -}}/run/secrets/gotel{{- end }}

{{/* A key of a mounted Secret, or a file that something else has mounted. */}}
{{- define "gotel.secretFile" -}}
{{- if hasPrefix "/" .key }}{{ .key }}{{ else }}{{ .folder }}/{{ .key }}{{ end }}
{{- end }}

{{/* One alerter as the program reads it: keys of the Secret become paths of files. */}}
{{- define "gotel.alerter" -}}
{{- $alerter := omit . "secretName" }}
{{- if .secretName }}
{{- if and (eq .type "pagerduty") (not .routingKeyFile) }}{{ $_ := set $alerter "routingKeyFile" "routingKey" }}{{ end }}
{{- if and (eq .type "smtp") (or .username .usernameFile) (not .passwordFile) }}{{ $_ := set $alerter "passwordFile" "password" }}{{ end }}
{{- end }}
{{- $folder := printf "%s/alerters/%s" (include "gotel.secrets" .) .name }}
{{- range $key := list "usernameFile" "passwordFile" "routingKeyFile" "urlFile" "secretFile" "caFile" }}
{{- with get $alerter $key }}
{{- $_ := set $alerter $key (include "gotel.secretFile" (dict "folder" $folder "key" .)) }}
{{- end }}
{{- end }}
{{- with .headerFiles }}
{{- $headers := dict }}
{{- range $header, $key := . }}{{ $_ := set $headers $header (include "gotel.secretFile" (dict "folder" $folder "key" $key)) }}{{ end }}
{{- $_ := set $alerter "headerFiles" $headers }}
{{- end }}
{{- toYaml $alerter }}
{{- end }}

{{/* The configuration file. */}}
{{- define "gotel.config" -}}
{{- $secrets := include "gotel.secrets" . }}
{{- $file := dict "listen" "0.0.0.0:8080" "dataDir" "/var/lib/gotel" }}
{{- with .Values.config.externalUrl }}{{ $_ := set $file "externalUrl" . }}{{ end }}
{{- with .Values.config.coordination }}{{ $_ := set $file "coordination" . }}{{ end }}
{{- with .Values.config.retention }}{{ $_ := set $file "retention" . }}{{ end }}
{{- if .Values.database.existingSecret.urlsKey }}
{{- $_ := set $file "database" (dict "urlsFile" (printf "%s/database/urls" $secrets)) }}
{{- else if .Values.database.existingSecret.name }}
{{- $_ := set $file "databaseUrlFile" (printf "%s/database/url" $secrets) }}
{{- end }}
{{- if eq .Values.auth.mode "none" }}
{{- $_ := set $file "auth" (dict "mode" "none") }}
{{- else }}
{{- $tokens := list }}
{{- range .Values.auth.tokens }}
{{- $token := dict "name" .name "scopes" .scopes "tokenFile" (printf "%s/tokens/%s/%s" $secrets .name (default "token" .key)) }}
{{- with .appPrefix }}{{ $_ := set $token "appPrefix" . }}{{ end }}
{{- $tokens = append $tokens $token }}
{{- end }}
{{- $_ := set $file "auth" (dict "tokens" $tokens) }}
{{- end }}
{{- with .Values.alerters }}
{{- $alerters := list }}
{{- range . }}{{ $alerters = append $alerters (include "gotel.alerter" . | fromYaml) }}{{ end }}
{{- $_ := set $file "alerters" $alerters }}
{{- end }}
{{- if .Values.heartbeat.secretName }}{{ $_ := set $file "heartbeatUrlFile" (printf "%s/heartbeat/url" $secrets) }}{{ end }}
{{- if .Values.replicaHeartbeat.secretName }}{{ $_ := set $file "replicaHeartbeatUrlFile" (printf "%s/replica-heartbeat/url" $secrets) }}{{ end }}
{{- if .Values.peers.existingSecret.name }}
{{- $replicas := list }}
{{- range $n := until (int .Values.replicas) }}
{{- $host := printf "%s-%d.%s-replicas.%s.svc" (include "gotel.fullname" $) $n (include "gotel.fullname" $) $.Release.Namespace }}
{{- $replicas = append $replicas (dict "id" (printf "%s-%d" $.Values.clusterName $n) "url" (printf "http://%s:8081" $host)) }}
{{- end }}
{{- $peers := dict "listen" "0.0.0.0:8081" "secretFile" (printf "%s/peers/secret" $secrets) "replicas" (concat $replicas .Values.peers.others) }}
{{- with .Values.peers.confirm }}{{ $_ := set $peers "confirm" . }}{{ end }}
{{- with .Values.peers.page }}{{ $_ := set $peers "page" . }}{{ end }}
{{- $_ := set $file "peers" $peers }}
{{- end }}
{{- if .Values.operator.enabled }}
{{- with .Values.operator.settings }}{{ $_ := set $file "kubernetes" . }}{{ end }}
{{- end }}
{{- toYaml $file }}
{{- end }}

{{/* Whether something of the Prometheus operator is to be rendered: "true" or nothing. */}}
{{- define "gotel.monitoring" -}}
{{- $known := .root.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" .kind) }}
{{- if .values.enabled }}
{{- if or $known (eq .values.renderMode "alwaysRender") }}true
{{- else if eq .values.renderMode "failIfMissing" }}{{ fail (printf "this cluster knows no %s: install the Prometheus operator first, or set renderMode=skipIfMissing" .kind) }}
{{- end }}
{{- end }}
{{- end }}

{{/* The Secrets that are mounted: name of the volume, path below the folder of secrets, Secret, and its keys if not all. */}}
{{- define "gotel.secretVolumes" -}}
{{- $volumes := list }}
{{- with .Values.database.existingSecret }}
{{- if .urlsKey }}
{{- $volumes = append $volumes (dict "name" "database" "path" "database" "secretName" .name "items" (list (dict "key" .urlsKey "path" "urls"))) }}
{{- else if .name }}
{{- $volumes = append $volumes (dict "name" "database" "path" "database" "secretName" .name "items" (list (dict "key" .key "path" "url"))) }}
{{- end }}
{{- end }}
{{- range .Values.auth.tokens }}
{{- $key := default "token" .key }}
{{- $volumes = append $volumes (dict "name" (printf "token-%s" .name) "path" (printf "tokens/%s" .name) "secretName" .secretName "items" (list (dict "key" $key "path" $key))) }}
{{- end }}
{{- range .Values.alerters }}
{{- if .secretName }}
{{- $volumes = append $volumes (dict "name" (printf "alerter-%s" .name) "path" (printf "alerters/%s" .name) "secretName" .secretName) }}
{{- end }}
{{- end }}
{{- with .Values.heartbeat }}
{{- if .secretName }}
{{- $volumes = append $volumes (dict "name" "heartbeat" "path" "heartbeat" "secretName" .secretName "items" (list (dict "key" .key "path" "url"))) }}
{{- end }}
{{- end }}
{{- with .Values.replicaHeartbeat }}
{{- if .secretName }}
{{- $volumes = append $volumes (dict "name" "replica-heartbeat" "path" "replica-heartbeat" "secretName" .secretName "items" (list (dict "key" .key "path" "url"))) }}
{{- end }}
{{- end }}
{{- with .Values.peers.existingSecret }}
{{- if .name }}
{{- $volumes = append $volumes (dict "name" "peers" "path" "peers" "secretName" .name "items" (list (dict "key" .key "path" "secret"))) }}
{{- end }}
{{- end }}
{{- toYaml $volumes }}
{{- end }}

{{/* What the operator may do with Reservations. No Secrets, and nothing of anybody else's is written. */}}
{{- define "gotel.rules" -}}
# What is to be watched.
- apiGroups: [gotel.dev]
  resources: [reservations]
  verbs: [get, list, watch]
# What became of it.
- apiGroups: [gotel.dev]
  resources: [reservations/status]
  verbs: [patch]
# What just happened: `patch` counts repeats in the same event.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{- define "gotel.subject" -}}
kind: ServiceAccount
name: {{ include "gotel.serviceAccountName" . }}
namespace: {{ .Release.Namespace }}
{{- end }}
