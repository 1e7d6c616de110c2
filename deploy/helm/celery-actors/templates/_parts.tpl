{{/* Labels of every object; give (list $ "component"). */}}
{{- define "labels" -}}
{{- $root := index . 0 -}}
{{ include "selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ $root.Chart.Name }}-{{ $root.Chart.Version }}
{{- end }}

{{/* What selects the pods of a component; give (list $ "component"). */}}
{{- define "selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: celery-actors
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* No root, no privilege, no way to get one. */}}
{{- define "pod-security" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}
{{- define "container-security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* The pod of a node; give (dict "root" $ "of" values "component" "node" "devices" 0). */}}
{{- define "node-pod" -}}
{{- $root := .root -}}
automountServiceAccountToken: false
# The preStop hook drains; then SIGTERM, with 30 seconds of its own.
terminationGracePeriodSeconds: {{ add $root.Values.node.drainSeconds 60 }}
securityContext:
  {{- include "pod-security" . | nindent 2 }}
containers:
  - name: node
    image: {{ $root.Values.image.node | quote }}
    imagePullPolicy: {{ $root.Values.image.pullPolicy }}
    args:
      {{- concat (list "celery_actors" "worker" "--metrics-port" "9110" "--metrics-host" "0.0.0.0") .of.arguments | toYaml | nindent 6 }}
    envFrom:
      - secretRef: {name: {{ $root.Values.secrets.node }}}
    ports:
      - {name: metrics, containerPort: 9110}
    lifecycle:
      preStop:
        exec:
          # The node's name is the pod's. Where the store is away there is nothing to wait for.
          command: ["/bin/sh", "-c", "celery_actors drain \"$(hostname)\" --timeout {{ $root.Values.node.drainSeconds }} || true"]
    startupProbe:
      httpGet: {path: /healthz, port: metrics}
      periodSeconds: 2
      failureThreshold: 60
    readinessProbe:
      httpGet: {path: /healthz, port: metrics}
      periodSeconds: 5
      timeoutSeconds: 5
    # It is unwell, too, while the store is away. A restart would end its actors: not for two minutes.
    livenessProbe:
      httpGet: {path: /healthz, port: metrics}
      periodSeconds: 10
      timeoutSeconds: 5
      failureThreshold: 12
    resources:
      requests:
        {{- toYaml .of.resources.requests | nindent 8 }}
      limits:
        {{- if .devices }}
        nvidia.com/gpu: {{ .devices }}
        {{- end }}
        {{- toYaml .of.resources.limits | nindent 8 }}
    securityContext:
      {{- include "container-security" . | nindent 6 }}
    volumeMounts:
      - {name: shared-memory, mountPath: /dev/shm}
      - {name: work, mountPath: /var/lib/celery-actors}
      - {name: temporary, mountPath: /tmp}
volumes:
  - name: shared-memory
    emptyDir: {medium: Memory, sizeLimit: {{ .of.sharedMemory }}}
  - {name: work, emptyDir: {}}
  - {name: temporary, emptyDir: {}}
{{- end }}
