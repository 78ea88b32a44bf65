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

section before
cat /proc/interrupts
section time
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
