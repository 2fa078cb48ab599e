#!/bin/busybox sh
# PID 1 of the guest. "/" is the machine's root, seen through hostfs and read-only; the job directory (kernel argument
# "guestjob=") says what to do. The steps: an overlay over that root, the usual kernel file systems, then the command with
# its output on the two consoles that the runner reads, its exit status into the job directory, power off.
#
# Every step is a busybox applet: a fork and exec costs a guest some ten milliseconds, least for a static binary. The
# command itself must not meet busybox: its shell runs applets in place of the programs of the same name, ip for one.

# shellcheck disable=SC2154 # what is not assigned here comes from the job's settings
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
bb=/bin/busybox

die() {
    echo "guest: $*" > /dev/console
    $bb poweroff -f
}

mount_kernel_file_systems() {
    $bb mount -t proc proc /proc
    $bb mount -t sysfs sysfs /sys
    $bb mount -t devtmpfs devtmpfs /dev
    $bb mkdir -p /dev/pts /dev/shm /dev/net
    $bb mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
    $bb mount -t tmpfs tmpfs /dev/shm
    $bb mount -t tmpfs -o mode=755 tmpfs /run
    $bb mkdir -p /run/lock /run/netns
    $bb mount -t cgroup2 cgroup2 /sys/fs/cgroup 2>/dev/null
    [ -e /dev/net/tun ] || $bb mknod /dev/net/tun c 10 200
    # devtmpfs does not make these, udev would
    for link in fd:/proc/self/fd stdin:/proc/self/fd/0 stdout:/proc/self/fd/1 stderr:/proc/self/fd/2; do
        [ -e "/dev/${link%%:*}" ] || $bb ln -s "${link#*:}" "/dev/${link%%:*}"
    done
}

# Overlay: everything that the command writes lands in a tmpfs. /mnt is only where that tmpfs is put: the overlay shows the
# machine's own /mnt, because a lower directory does not include what is mounted on it.
enter_overlay() {
    for module in "$modules/$release"/kernel/fs/overlayfs/overlay.ko*; do
        [ -e "$module" ] && $bb insmod "$module"
    done
    $bb mount -t tmpfs -o mode=755 tmpfs /mnt || die "no tmpfs on /mnt"
    $bb mkdir /mnt/upper /mnt/work /mnt/root
    $bb mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root || die "no overlay"
    cd /mnt/root || die "no /mnt/root"
    $bb mkdir -p .machine lib/modules
    $bb pivot_root . .machine || die "pivot_root refused"
}

# $1: console, $2: file to bring to it as it grows; ends with the last writer
relay() { $bb cat "$2" > "$1" & }

run_with_terminal() {
    # In the session itself: a console forgets its size when nobody has it open.
    $bb setsid -c /bin/sh -c "$bb stty sane rows $rows cols $columns; . $job/command" < /dev/tty1 > /dev/tty1 2>&1
}

# Pipes rather than the consoles themselves: a console is a terminal, and the command must not think it talks to one.
run_with_pipes() {
    $bb mkfifo /run/guest-out /run/guest-err
    relay /dev/tty1 /run/guest-out; out=$!
    relay /dev/tty2 /run/guest-err; err=$!
    /bin/sh "$job/command" < /dev/null > /run/guest-out 2> /run/guest-err
    status=$?
    # What the command left running may hold the pipes open for ever: one second for the rest of the output.
    tries=0
    while [ $tries -lt 100 ] && { [ -d /proc/$out ] || [ -d /proc/$err ]; }; do
        $bb usleep 10000
        tries=$((tries + 1))
    done
    return $status
}

$bb mount -t proc proc /proc
for word in $($bb cat /proc/cmdline); do
    case $word in guestjob=*) job=${word#guestjob=} ;; esac
done
read -r release < /proc/sys/kernel/osrelease
# Sets modules, directory, terminal, rows, columns.
# shellcheck disable=SC1091 # made by runner.py
. "$job/settings"

enter_overlay
exec < /.machine/dev/null > /.machine/dev/tty0 2>&1
mount_kernel_file_systems
# The kernel loads a module by /sbin/modprobe, which looks for it below /lib/modules.
[ -d "$modules/$release" ] && $bb mount --bind "$modules" /lib/modules
$bb mount -t hostfs -o "$job" hostfs "$job" || die "job directory not writable"
while read -r writable_directory; do
    [ -n "$writable_directory" ] || continue
    $bb mkdir -p "$writable_directory"
    $bb mount -t hostfs -o "$writable_directory" hostfs "$writable_directory" || die "cannot give $writable_directory"
done < "$job/writable"
$bb umount -l /.machine 2>/dev/null
echo guest > /proc/sys/kernel/hostname
$bb ip link set lo up
$bb stty -F /dev/tty1 raw -echo
$bb stty -F /dev/tty2 raw -echo
cd "$directory" || die "no directory $directory"

if [ "$terminal" = yes ]; then run_with_terminal; else run_with_pipes; fi
echo $? > "$job/status"
$bb sync
$bb poweroff -f
