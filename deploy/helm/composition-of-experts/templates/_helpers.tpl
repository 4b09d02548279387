{{- define "coe.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "coe.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "coe.labels" -}}
{{ include "coe.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "coe.secret" -}}
{{- if .Values.cluster.existingSecret }}{{ .Values.cluster.existingSecret }}{{ else }}{{ include "coe.name" . }}-nodes{{ end }}
{{- end }}

{{- define "coe.domain" -}}
{{ include "coe.name" . }}-nodes.{{ .Release.Namespace }}.svc
{{- end }}

{{- define "coe.peers" -}}
{{- $peers := list }}
{{- range $number := until (int .Values.replicas) }}
{{- $peers = append $peers (printf "%s-%d.%s:8100" (include "coe.name" $) $number (include "coe.domain" $)) }}
{{- end }}
{{- join "," $peers }}
{{- end }}

{{- define "coe.configFile" -}}
{{- if .Values.config }}/etc/coe/config.yaml{{ else }}configs/embedded.yaml{{ end }}
{{- end }}

{{- define "coe.scheme" -}}
{{- $server := .Values.config.server | default dict -}}
{{- if $server.tls_cert }}https{{ else }}http{{ end }}
{{- end }}

{{- define "coe.probes" -}}
# Preparing and the engines' start take minutes, and a gateway waits for a node; until then it is alive and not ready.
startupProbe:
  httpGet: {path: /health, port: http, scheme: {{ include "coe.scheme" . | upper }}}
  periodSeconds: 10
  failureThreshold: 180
livenessProbe:
  httpGet: {path: /health, port: http, scheme: {{ include "coe.scheme" . | upper }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /ready, port: http, scheme: {{ include "coe.scheme" . | upper }}}
  periodSeconds: 5
  timeoutSeconds: 4
{{- end }}

{{- define "coe.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "coe.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
{{- end }}
