# Runs in the guest, by busybox's sh: what it looks at is told in sections, `== name` and their lines. $1 is a directory
# on the disk.
section() { echo "== $1"; }
clock() { cut -d' ' -f1 /proc/uptime; date +%s; }
devices=/sys/devices/system

section clocks
cat $devices/clocksource/clocksource0/current_clocksource $devices/clockevents/clockevent0/current_device
section cpus
cat $devices/cpu/online
section memory
sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo

# The second serial port, where the session does not need it: its interrupts are seen while it is open.
spare=/dev/null
[ ! -e /sys/class/net/eth0 ] || spare=/dev/ttyS1
exec 3>$spare

section before
cat /proc/interrupts
section time
# More than the transmitter's FIFO holds: a driver that fills it at once must wait for an interrupt to go on.
echo "The second serial port has nothing else to say here." >&3
clock
sleep 1
clock
section after
cat /proc/interrupts

# Written, pushed out of memory, and read again through the disk.
section disk
head -c 2000000 /dev/urandom >"$1/noise"
sum=$(sha256sum <"$1/noise")
sync
echo 3 >/proc/sys/vm/drop_caches
[ "$sum" = "$(sha256sum <"$1/noise")" ] && echo same
sed -n "s,^/dev/vda \([^ ]*\) \([^ ]*\) .*,\1 \2,p" /proc/mounts
section read
cat /proc/interrupts
section log
dmesg -r
section end
