#!/bin/sh
# The first command in a container: it is root only until it knows who owns ./data on the host, and then becomes that user
# for good, because an output may be readable for its owner only. When root owns the folder, the processor's files belong
# to an unprivileged user, or, where root is nobody special on the host, to root: see processor/docker-entry.sh.
set -eu

data=/app/data
unprivileged=10001

# Under rootless Docker, Podman and userns-remap the root of this container is an ordinary user of the host.
root_is_ordinary() {
    while read -r inside outside _; do
        if [ "$inside" = 0 ] && [ "$outside" != 0 ]; then return 0; fi
    done </proc/self/uid_map
    return 1
}

become=""
if [ "$(id -u)" = 0 ]; then
    user=$(stat -c %u "$data") group=$(stat -c %g "$data")
    if root_is_ordinary; then
        # A user of the host that this container does not know is shown as the overflow user.
        if [ "$user" = "$(cat /proc/sys/kernel/overflowuid)" ]; then
            user=0
        fi
    elif [ "$user" = 0 ]; then
        user=$unprivileged group=$unprivileged
    fi
    become="setpriv --inh-caps=-all --no-new-privs"
    if [ "$user" != 0 ]; then
        become="$become --reuid $user --regid $group --clear-groups"
    fi
fi

# shellcheck disable=SC2086
exec $become tini -- "$@"
