#!/bin/sh
# packages.sh run|test: installs the Debian or Ubuntu packages that the program
# can use (run), or that its tests need besides (test). Where it may not or cannot,
# it says what to install; with CI set that is a failure for test.
set -eu

usage() {
	echo "usage: packages.sh run|test" >&2
	exit 2
}

speech="flite espeak-ng pocketsphinx pocketsphinx-en-us"
peers="gcc libc6-dev sip-tester baresip-core linphone-cli kamailio sox ffmpeg tshark debootstrap debian-archive-keyring shellcheck chromium libspandsp-dev"
# Node.js is often there without being a package.
command -v npm >/dev/null || peers="$peers nodejs npm"

[ $# -eq 1 ] || usage
purpose=$1
case $purpose in
run) wanted=$speech ;;
test) wanted="$speech $peers" ;;
*) usage ;;
esac

say() { printf 'packages: %s\n' "$*" >&2; }

# lacking ends the script where something stays missing.
lacking() {
	say "$*"
	if [ "$purpose" = test ] && [ -n "${CI:-}" ]; then
		exit 1
	fi
	say "going on with what is there"
	exit 0
}

missing() {
	for p in $wanted; do
		dpkg-query -W -f '${db:Status-Status}\n' "$p" 2>/dev/null | grep -qx installed || printf '%s ' "$p"
	done
}

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
	lacking "no apt here; where they are missing, install what your system has of: $wanted"
fi

need=$(missing)
[ -n "$need" ] || exit 0

root=
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
		lacking "not allowed to install; run: sudo apt-get install --no-install-recommends $need"
	fi
	root="sudo -n"
fi

# Servers among the packages must not start by themselves.
policy=/usr/sbin/policy-rc.d
made=
restore() { [ -z "$made" ] || $root rm -f "$policy"; }
trap restore EXIT
trap 'exit 130' INT TERM
if [ ! -e "$policy" ]; then
	made=yes
	printf '#!/bin/sh\nexit 101\n' | $root tee "$policy" >/dev/null
	$root chmod 0755 "$policy"
fi

apt() { $root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120 "$@" >&2; }

say "installing $need"
apt update || say "apt-get update did not succeed for every source"
found=
for p in $need; do
	if apt-cache show "$p" >/dev/null 2>&1; then
		found="$found $p"
	else
		say "$p is in no configured source"
	fi
done
# shellcheck disable=SC2086 # names, one word each
[ -z "$found" ] || apt install -y --no-install-recommends $found || true

need=$(missing)
[ -z "$need" ] || lacking "could not be installed: $need"
