#!/bin/sh
# The first command in a container: it is root only until it knows who owns ./data on the host, and then becomes that user
# for good, so that files belong to whoever owns the folder, without configuration. When root owns it, the user is an
# unprivileged one that is given the output folder, or, where root is nobody special on the host, root.
set -eu

data=/app/data
unprivileged=10001

# Under rootless Docker, Podman and userns-remap the root of this container is an ordinary user of the host. What belongs to
# root here belongs to that user there, and what belongs to anybody else here the user could not even delete.
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
        # A user of the host that this container does not know is shown as the overflow user.
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
    # A link on the way may lead anywhere, so nothing behind one is made or handed over.
    plain=$(realpath -m -s -- "$output")
    if [ "$(realpath -m -- "$output")" = "$plain" ]; then
        case $plain in
            "$data"/?*)
                # What earlier runs as another user left there is handed over; where the host forbids it, the processor says so.
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

# The profile `cluster` brings a host of this name; a master other than the default wins.
if [ "${SPARK_MASTER:-local[*]}" = "local[*]" ] && getent hosts spark-master >/dev/null; then
    export SPARK_MASTER=spark://spark-master:7077
fi

# shellcheck disable=SC2086
exec $become tini -- "$@"
