#!/bin/sh
# The first command in a container. It starts as root, finds out who owns ./data on the host and becomes that user for
# good, so that new files belong to the owner of the folder without configuration. If root owns ./data, it becomes an
# unprivileged user, who is made owner of the output folder; if root is an ordinary user on the host, it stays root.
set -eu

data=/app/data
unprivileged=10001

# Under rootless Docker, Podman and userns-remap the root of this container is an ordinary user of the host. Files of root
# here belong to that user there; files of other users here could not even be deleted by that user.
root_is_ordinary() {
    while read -r inside outside _; do
        if [ "$inside" = 0 ] && [ "$outside" != 0 ]; then return 0; fi
    done </proc/self/uid_map
    return 1
}

user=$(id -u) group=$(id -g) become=""
if [ "$user" = 0 ]; then
    mkdir -p "$data"
    user=$(stat -c %u "$data") group=$(stat -c %g "$data")
    if root_is_ordinary; then
        # A host user without a number in this container is shown as the overflow user: stay root, who can write there.
        if [ "$user" = "$(cat /proc/sys/kernel/overflowuid)" ]; then
            user=0 group=0
        fi
    elif [ "$user" = 0 ]; then
        user=$unprivileged group=$unprivileged
    fi
    case ${OUTPUT_PATH:-data/output} in
        /*) output=$OUTPUT_PATH ;;
        *) output=/app/${OUTPUT_PATH:-data/output} ;;
    esac
    # A link in the path may lead anywhere, so nothing behind a link is made or changes its owner.
    plain=$(realpath -m -s -- "$output")
    if [ "$(realpath -m -- "$output")" = "$plain" ]; then
        case $plain in
            "$data"/?*)
                # Files that earlier runs made as another user change their owner. If the host forbids that, the processor
                # reports what it cannot write.
                mkdir -p "$plain"
                find "$plain" ! -uid "$user" -exec chown -h "$user:$group" {} + || :
                ;;
        esac
    fi
    become="setpriv --inh-caps=-all --no-new-privs"
    if [ "$user" != 0 ]; then
        become="$become --reuid $user --regid $group --clear-groups"
    fi
fi

# The JVM asks for the name of its user.
getent passwd "$user" >/dev/null || echo "tickets:x:$user:$group::/tmp:/bin/false" >/var/lib/extrausers/passwd

# The profile `cluster` brings a host of this name; a master that was set explicitly wins.
if [ "${SPARK_MASTER:-local[*]}" = "local[*]" ] && getent hosts spark-master >/dev/null; then
    export SPARK_MASTER=spark://spark-master:7077
fi

# shellcheck disable=SC2086
exec $become tini -- "$@"
