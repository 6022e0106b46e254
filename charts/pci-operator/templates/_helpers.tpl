{{- /* Labels of every object. */}}
{{- define "pci-operator.labels" -}}
app.kubernetes.io/name: pcioperator
app.kubernetes.io/part-of: pcioperator
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* Annotations of CustomResourceDefinitions: kept, or taken away by the uninstall's own job while the controller is there to let the objects go. */}}
{{- define "pci-operator.kept" -}}
annotations:
  helm.sh/resource-policy: keep
{{- end }}

{{- /* An image: (dict "image" .Values.….image "chart" .Chart). */}}
{{- define "pci-operator.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .chart.AppVersion }}
{{- end }}
{{- end }}

{{- /* Not empty where the cluster has the definitions of Prometheus' operator, and where nobody can say. */}}
{{- define "pci-operator.has-prometheus-operator" -}}
{{- if not .Capabilities.APIVersions }}yes{{ else if .Capabilities.APIVersions.Has "monitoring.coreos.com/v1" }}yes{{ end }}
{{- end }}

{{- /* Where a program's spans go. */}}
{{- define "pci-operator.traces" -}}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .endpoint | quote }}
- name: OTEL_EXPORTER_OTLP_PROTOCOL
  value: {{ .protocol }}
{{- with .headersSecret }}
{{- if .name }}
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom:
    secretKeyRef:
      name: {{ .name }}
      key: {{ .key }}
{{- end }}
{{- end }}
{{- range $name, $value := .env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
