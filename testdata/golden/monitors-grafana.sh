#!/bin/bash
# Grafana of a monitors run. Started by the node supervisor, which sets
# AIFBENCH_* and has written the provisioning.
set -eu
export GF_SERVER_HTTP_ADDR=127.0.0.1
export GF_SERVER_HTTP_PORT="$AIFBENCH_PORT"
export GF_PATHS_DATA="$AIFBENCH_SCRATCH/grafana"
export GF_PATHS_LOGS="$AIFBENCH_SCRATCH/grafana/log"
export GF_PATHS_PLUGINS="$AIFBENCH_SCRATCH/grafana/plugins"
export GF_PATHS_PROVISIONING="$AIFBENCH_MONITORS_DIR/grafana"
export GF_LOG_MODE=console
export GF_SECURITY_ADMIN_USER=aifbench
# Grafana reads the file itself: the key is in no environment.
export GF_SECURITY_ADMIN_PASSWORD="\$__file{$AIFBENCH_KEY_FILE}"
export GF_SECURITY_DISABLE_GRAVATAR=true
export GF_USERS_ALLOW_SIGN_UP=false
export GF_AUTH_ANONYMOUS_ENABLED=false
export GF_ANALYTICS_REPORTING_ENABLED=false
export GF_ANALYTICS_CHECK_FOR_UPDATES=false
export GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES=false
export GF_NEWS_NEWS_FEED_ENABLED=false
# A container without the caller's environment still takes these, and sees the
# two directories that the configuration names.
for name in $(compgen -e GF_); do
  export "APPTAINERENV_$name=${!name}"
done
export APPTAINER_BIND="$AIFBENCH_SCRATCH,$AIFBENCH_RUN_DIR"
exec /opt/grafana/bin/grafana server --homepath /opt/grafana
