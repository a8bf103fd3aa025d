#!/bin/sh
# The first command in a container: it is root only until it knows who owns ./data on the host, and then becomes that user
# for good, so that files belong to whoever owns the folder, without configuration. When root owns it, the user is an
# unprivileged one that is given the output folder.
set -eu

data=/app/data
unprivileged=10001

user=$(id -u) group=$(id -g) become=""
if [ "$user" = 0 ]; then
    mkdir -p "$data"
    user=$(stat -c %u "$data") group=$(stat -c %g "$data")
    if [ "$user" = 0 ]; then
        user=$unprivileged group=$unprivileged
    fi
    case ${OUTPUT_PATH:-data/output} in
        /*) output=$OUTPUT_PATH ;;
        *) output=/app/${OUTPUT_PATH:-data/output} ;;
    esac
    case $output in
        */../* | */..) ;;
        "$data"/?*)
            # What earlier runs as another user left there is handed over; where the host forbids it, the processor says so.
            mkdir -p "$output"
            find "$output" ! -uid "$user" -exec chown -h "$user:$group" {} + || :
            ;;
    esac
    become="setpriv --reuid $user --regid $group --clear-groups --inh-caps=-all --no-new-privs"
fi

# The JVM asks for the name of its user.
getent passwd "$user" >/dev/null || echo "tickets:x:$user:$group::/tmp:/bin/false" >/var/lib/extrausers/passwd

# The profile `cluster` brings a host of this name; a master other than the default wins.
if [ "${SPARK_MASTER:-local[*]}" = "local[*]" ] && getent hosts spark-master >/dev/null; then
    export SPARK_MASTER=spark://spark-master:7077
fi

# shellcheck disable=SC2086
exec $become tini -- "$@"
