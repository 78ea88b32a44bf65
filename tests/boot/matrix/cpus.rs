//! CPUs that come and go while the others work.

use crate::dmesg::complaints;
use crate::launcher::Program;

/// Boots with one CPU of four; then, under load, the other three come and go. Whatever a new CPU does is started on it, so
/// that one that is online by name alone would be found out.
const SCRIPT: &str = "set -e
    cd /sys/devices/system/cpu
    echo first $(cat online)
    (while :; do :; done) & load=$!
    (while :; do head -c 100000 /dev/urandom > /tmp/noise; done) & load=\"$load $!\"
    for round in $(seq 20); do
        for cpu in 1 2 3; do echo 1 > cpu$cpu/online; done
        ran=
        for cpu in 1 2 3; do ran=\"$ran $(taskset $((1 << cpu)) cut -d' ' -f39 /proc/self/stat)\"; done
        came=$(cat online)
        for cpu in 2 3 1; do echo 0 > cpu$cpu/online; done
        echo round $round: $came,$ran, $(cat online)
    done
    kill $load
    grep LOC: /proc/interrupts
    sleep 1
    dmesg -r";

#[test]
fn cpus_come_and_go_under_load() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let arguments = ["-c", "4", "--append", "maxcpus=1", "--", "sh", "-c", SCRIPT];
    let finished = xlaunch.run(&arguments);
    assert_eq!(finished.code(), 0, "{finished}");
    let said = finished.text();
    let (told, log) = said.split_once("LOC:").unwrap();
    let rounds = (1..=20).map(|round| format!("round {round}: 0-3, 1 2 3, 0\n"));
    assert_eq!(told, "first 0\n".to_owned() + &rounds.collect::<String>());
    let (_, log) = log.split_once('\n').unwrap();
    let complaints = complaints(log, &super::BUSY_HOST);
    assert!(complaints.is_empty(), "{complaints:#?}\nin\n{log}");
}
