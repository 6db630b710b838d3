#!/bin/sh
# test.sh [BIN]: makes the root of the image with debootstrap instead of a
# container engine, starts the demo in it as the image's user, and calls it from
# outside with the program in BIN. Needs root, and the packages' mirror.
set -eu
bin=$(cd "${1:-bin}" && pwd)
here=$(cd "$(dirname "$0")" && pwd)

skip() {
	echo "skip: $*, so the image is not tested" >&2
	[ -z "${CI:-}" ] || exit 1
	exit 0
}
[ "$(id -u)" -eq 0 ] || skip "only root may make a chroot"
command -v debootstrap >/dev/null || skip "debootstrap is not installed"

work=$(mktemp -d)
root=$work/root
demo=
cleanup() {
	status=$?
	trap - EXIT
	[ -z "$demo" ] || { kill -KILL "$demo" && wait "$demo"; } 2>/dev/null || true
	! mountpoint -q "$root/proc" || umount "$root/proc" || exit 1
	[ "$status" -eq 0 ] || tail -n 40 "$work"/*.log >&2 || true
	rm -rf --one-file-system "$work"
	exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# The mirror, proxies and clock rules of this machine hold in the chroot too.
# shellcheck disable=SC2016 # apt expands these
mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
	awk '$2 == "bookworm" && $3 == "main" && $1 ~ /^https?:/ { print $1; exit }')
mirror=${mirror:-http://deb.debian.org/debian}
settings=$(apt-config dump | grep -Ei '^acquire::(https?::(.*::)?proxy|check-|retries)' | grep -vi 'auto-?detect' || true)
proxy=
eval "$(apt-config shell proxy Acquire::http::Proxy)"
[ -z "$proxy" ] || export http_proxy="${http_proxy:-$proxy}"

echo "debootstrap from $mirror"
debootstrap --variant=minbase bookworm "$root" "$mirror" >"$work/debootstrap.log" 2>&1
printf '%s\n' "$settings" >"$root/etc/apt/apt.conf.d/01host"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 0755 "$root/usr/sbin/policy-rc.d"
cp /etc/hosts "$root/etc/hosts"
mount -t proc proc "$root/proc"
mkdir "$root/image" "$root/programs"
cp "$here/install.sh" "$root/image/"
cp "$bin/ivrbridge" "$bin/ivrbridge-worker" "$root/programs/"

# Both end in exec, so that in the background $! is the program itself.
inside() {
	exec env -i ${http_proxy:+http_proxy="$http_proxy"} HOME=/var/lib/ivrbridge \
		PATH=/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin chroot "$@"
}
as_user() { inside --userspec=65532:65532 "$root" sh -c 'cd && exec "$@"' sh "$@"; }

echo "install.sh"
(inside "$root" sh /image/install.sh system) >"$work/system.log" 2>&1
(inside "$root" sh /image/install.sh program /programs) >"$work/program.log" 2>&1

(as_user flite -t "hello" -o hello.wav)
test -s "$root/var/lib/ivrbridge/hello.wav"

as_user ivrbridge demo --sip 127.0.0.1:25060 --http 127.0.0.1:0 --rtp 28100-28199 >"$work/demo.log" 2>&1 &
demo=$!
uri=
for _ in $(seq 300); do
	uri=$(sed -n 's/.*\(sip:demo@127\.0\.0\.1:[0-9]*\).*/\1/p' "$work/demo.log" | head -n 1)
	[ -z "$uri" ] || break
	kill -0 "$demo" 2>/dev/null || break
	sleep 0.1
done
[ -n "$uri" ] || {
	echo "the demo printed no address to call" >&2
	exit 1
}
if grep 'is installed:' "$work/demo.log" >&2; then
	echo "the demo lacks a part of the image's speech" >&2
	exit 1
fi

echo "calling $uri"
timeout 120 "$bin/ivrbridge" call --script "$here/call.yaml" --record "$work/heard.wav" "$uri" >"$work/call.log" 2>&1
test -s "$work/heard.wav"

# SIGTERM drains: no call is left, so it ends at once, and well.
kill -TERM "$demo"
wait "$demo"
demo=
echo "the image works"
