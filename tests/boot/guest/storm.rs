//! Runs in the guest: wakes CPUs in every way there is, for as many seconds as its argument says, and measures how late
//! the latest wake-up came.
//!
//! One thread a CPU, bound to it, in each of three groups: a ring that hands a token on (each hop an IPI to a CPU that
//! sleeps), sleepers of a few dozen microseconds (timers), and mappers that drop memory the others have seen (TLB
//! flushes by IPI). One more reads the disk past its cache. Whoever gets no further for long is named, and that is a
//! failure: a wake-up that was lost shows as a thread that sleeps for ever.
#![forbid(unsafe_code)]

use std::process::{Command, Stdio, exit};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

/// Longer than any busy host lets a CPU wait, and shorter than the test does.
const STALL: Duration = Duration::from_secs(30);
/// Enough for a mapping of its own, which is given back when it is dropped.
const MAPPING: usize = 4 << 20;

/// What a group has done: how often, and in nanoseconds how late at the latest.
#[derive(Default)]
struct Tally {
    done: AtomicU64,
    latest: AtomicU64,
}

impl Tally {
    fn count(&self, late: Duration) {
        self.done.fetch_add(1, SeqCst);
        self.latest.fetch_max(late.as_nanos() as u64, SeqCst);
    }
}

type Stop = Arc<AtomicBool>;

fn main() {
    let seconds = std::env::args().nth(1).and_then(|it| it.parse().ok());
    let cpus = thread::available_parallelism().unwrap().get();
    let (stop, mut threads) = (Stop::default(), Vec::new());
    let groups = ["ring", "timers", "flushes", "disk"].map(|name| (name, Arc::<Tally>::default()));
    let tally = |group: usize| groups[group].1.clone();
    threads.extend(ring(cpus, &tally(0), &stop));
    for cpu in 0..cpus {
        threads.push(bound(cpu, &tally(1), &stop, sleep_shortly));
        threads.push(bound(cpu, &tally(2), &stop, map_and_drop));
    }
    threads.push(bound(cpus - 1, &tally(3), &stop, read_disk));

    let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(10));
    let mut seen = groups.each_ref().map(|_| (0, Instant::now()));
    while Instant::now() < end {
        thread::sleep(Duration::from_millis(100));
        for ((name, tally), (done, since)) in groups.iter().zip(&mut seen) {
            let now = tally.done.load(SeqCst);
            if now != *done {
                (*done, *since) = (now, Instant::now());
            } else if since.elapsed() > STALL {
                println!("{name}: stalled after {now}");
                exit(1);
            }
        }
    }
    stop.store(true, SeqCst);
    for thread in threads {
        // Whoever waits for the token gets no other call.
        thread.thread().unpark();
        thread.join().unwrap();
    }
    for (name, tally) in &groups {
        let (done, latest) = (tally.done.load(SeqCst), tally.latest.load(SeqCst) / 1000);
        println!("{name}: {done} done, the latest {latest} us late");
    }
}

/// Binds this thread to a CPU. The standard library cannot, a program of the guest can.
fn bind(cpu: usize) {
    let thread = std::fs::read_link("/proc/thread-self").unwrap();
    let tid = thread.file_name().unwrap();
    let mut taskset = Command::new("taskset");
    taskset.args(["-p", &format!("{:x}", 1_u64 << cpu)]).arg(tid);
    assert!(taskset.stdout(Stdio::null()).status().unwrap().success());
}

/// A thread on `cpu` that repeats `work`, which tells how late it was.
fn bound(cpu: usize, tally: &Arc<Tally>, stop: &Stop, work: fn(u64) -> Duration) -> JoinHandle<()> {
    let (tally, stop) = (tally.clone(), stop.clone());
    thread::spawn(move || {
        bind(cpu);
        let mut round = cpu as u64;
        while !stop.load(SeqCst) {
            round += 1;
            tally.count(work(round));
        }
    })
}

/// The ring: the thread whose turn it is wakes the next.
fn ring(cpus: usize, tally: &Arc<Tally>, stop: &Stop) -> Vec<JoinHandle<()>> {
    let started = Instant::now();
    // Whose turn it is, counted on for ever, and when it was given.
    let (turn, given) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    // The last learns the first when all are there.
    let (first, of_first) = std::sync::mpsc::channel::<Thread>();
    let mut of_first = Some(of_first);
    for cpu in (0..cpus).rev() {
        let next = threads.last().map(|it| it.thread().clone());
        let late = if next.is_none() { of_first.take() } else { None };
        let (turn, given) = (turn.clone(), given.clone());
        let (tally, stop) = (tally.clone(), stop.clone());
        threads.push(thread::spawn(move || {
            bind(cpu);
            let next = next.or_else(|| late.and_then(|it| it.recv().ok()));
            let next = next.expect("somebody follows");
            while !stop.load(SeqCst) {
                let now = turn.load(SeqCst);
                if now % cpus as u64 != cpu as u64 {
                    thread::park();
                    continue;
                }
                let since = started.elapsed().as_nanos() as u64;
                tally.count(Duration::from_nanos(since - given.load(SeqCst)));
                given.store(started.elapsed().as_nanos() as u64, SeqCst);
                turn.store(now + 1, SeqCst);
                next.unpark();
            }
        }));
    }
    first.send(threads.last().unwrap().thread().clone()).unwrap();
    threads
}

fn sleep_shortly(round: u64) -> Duration {
    let wanted = Duration::from_micros(20 + round * 37 % 400);
    let start = Instant::now();
    thread::sleep(wanted);
    start.elapsed().saturating_sub(wanted)
}

/// Dropping memory that several CPUs may have mapped has them all flush it.
fn map_and_drop(round: u64) -> Duration {
    let mut memory = vec![0_u8; MAPPING];
    for page in memory.chunks_mut(4096) {
        page[0] = round as u8;
    }
    let start = Instant::now();
    drop(memory);
    let late = start.elapsed();
    thread::sleep(Duration::from_millis(2));
    late
}

/// Reads of a block each, which end with the device's interrupt.
fn read_disk(round: u64) -> Duration {
    let start = Instant::now();
    let mut dd = Command::new("dd");
    dd.args(["if=/dev/vda", "of=/dev/null", "bs=4k", "count=64", "iflag=direct"]);
    dd.arg(format!("skip={}", round % 8 * 64));
    assert!(dd.stderr(Stdio::null()).status().unwrap().success());
    start.elapsed()
}
