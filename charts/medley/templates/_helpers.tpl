{{- define "medley.name" -}}
{{- .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "medley.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "medley.selector" -}}
app.kubernetes.io/name: {{ include "medley.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "medley.labels" -}}
{{ include "medley.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: medley
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "medley.account" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "medley.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name is needed where serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "medley.lease" -}}
{{- default (include "medley.fullname" .) .Values.lease.name }}
{{- end }}

{{- define "medley.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- define "medley.access.fullname" -}}
{{- printf "%s-access" (include "medley.fullname" .) }}
{{- end }}

{{- define "medley.access.selector" -}}
app.kubernetes.io/name: {{ include "medley.name" . }}-access
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "medley.access.labels" -}}
{{ include "medley.access.selector" . }}
{{ omit (fromYaml (include "medley.labels" .)) "app.kubernetes.io/name" "app.kubernetes.io/instance" | toYaml }}
{{- end }}

{{- define "medley.access.account" -}}
{{- if .Values.access.serviceAccount.create }}
{{- default (include "medley.access.fullname" .) .Values.access.serviceAccount.name }}
{{- else }}
{{- required "access.serviceAccount.name is needed where access.serviceAccount.create is false" .Values.access.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "medley.access.image" -}}
{{- $tag := default (printf "%s-full" (default .Chart.AppVersion .Values.image.tag)) .Values.access.imageTag }}
{{- printf "%s:%s" .Values.image.repository $tag }}
{{- end }}
