#!/bin/sh
# What is in the image, on top of Debian 12. The Dockerfile runs it, and so does
# test.sh in a chroot.
#
#   install.sh system        packages, user and folders
#   install.sh program DIR   the programs from DIR
set -eu

uid=65532
home=/var/lib/ivrbridge

system() {
	export DEBIAN_FRONTEND=noninteractive
	apt-get -q update
	apt-get -q install -y --no-install-recommends ca-certificates flite espeak-ng pocketsphinx pocketsphinx-en-us
	apt-get clean
	rm -rf /var/lib/apt/lists/*

	groupadd -K GID_MAX=65533 --gid "$uid" ivrbridge
	useradd -K UID_MAX=65533 --uid "$uid" --gid "$uid" --no-create-home --home-dir "$home" --shell /usr/sbin/nologin ivrbridge
	install -d -m 0755 /etc/ivrbridge
	install -d -m 0750 -o ivrbridge -g ivrbridge "$home"
}

program() {
	install -m 0755 "$1/ivrbridge" "$1/ivrbridge-worker" /usr/local/bin/
}

case "${1:-} $#" in
"system 1") system ;;
"program 2") program "$2" ;;
*)
	echo "usage: install.sh system | program DIR" >&2
	exit 2
	;;
esac
