#!/bin/bash
# Starts a systemd of its own, in namespaces of its own: private_systemd.sh DIRECTORY (see private_systemd.py).
# What it writes goes to memory, on top of the files of this machine, and is gone with it. It is process 1 there, and
# starts what is in DIRECTORY/units, and nothing else.
set -euo pipefail
shared=$1
mount --make-rprivate /
layers=$(mktemp -d)
mount -t tmpfs tmpfs "$layers"
mkdir "$layers/upper" "$layers/work" "$layers/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$layers/upper,workdir=$layers/work" "$layers/root"
cd "$layers/root"

mount -t proc proc proc
# Its settings are those of this machine too, and systemd raises some of them at its start.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount --bind /sys sys
mount -o remount,bind,ro sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
	touch "dev/$device"
	mount --bind "/dev/$device" "dev/$device"
done
ln -s /proc/self/fd dev/fd
mkdir dev/shm dev/pts dev/mqueue dev/hugepages
mount -t tmpfs tmpfs dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t mqueue mqueue dev/mqueue
mount -t tmpfs tmpfs dev/hugepages
mount -t tmpfs -o mode=755 tmpfs run
mkdir -p srv/shared
mount --bind "$shared" srv/shared

# Nothing of what this machine starts.
rm -rf etc/systemd/system/* {usr/,}lib/systemd/system/*.wants
for target in sysinit basic network-online; do
	printf '[Unit]\nDescription=nothing\n' >"etc/systemd/system/$target.target"
done
chroot . /bin/bash -euo pipefail /srv/shared/prepare.sh
cp srv/shared/units/* etc/systemd/system/
mount -t tmpfs -o mode=1777 tmpfs tmp

mkdir -p old
pivot_root . old
cd /
umount --lazy /old
mount --make-rshared /
exec env container=private /lib/systemd/systemd --system --unit=begin.target --log-target=journal --show-status=no
