//! Runs in the guest: two threads contend for one thing after another, and each result is known beforehand.
//!
//! Compiled by the test for a static program. It prints a line for each kind of lock, and which CPUs the threads ran on.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread;

const ROUNDS: u64 = 200_000;

/// What a thread does between its rounds.
type Work<'a> = &'a (dyn Fn(u64) + Sync);

fn main() {
    let cpus = Mutex::new(BTreeSet::new());
    add(&cpus);
    mutex(&cpus);
    spin(&cpus);
    turns();
    order();
    let cpus = cpus.into_inner().unwrap();
    let cpus: Vec<String> = cpus.iter().map(u32::to_string).collect();
    println!("ran on CPUs {}", cpus.join(" "));
}

/// Runs `work` in two threads at once and notes where they were.
fn both(cpus: &Mutex<BTreeSet<u32>>, work: Work<'_>) {
    let ready = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                ready.fetch_add(1, Ordering::SeqCst);
                while ready.load(Ordering::SeqCst) < 2 {
                    std::hint::spin_loop();
                }
                for round in 0..ROUNDS {
                    work(round);
                    if round % (ROUNDS / 8) == 0 {
                        let cpu = cpu();
                        cpus.lock().unwrap().insert(cpu);
                    }
                }
            });
        }
    });
}

/// The CPU that this thread runs on: field 39 of its stat, counted behind the name in parentheses, which is field 2.
fn cpu() -> u32 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let fields = stat.rsplit(')').next().unwrap();
    fields.split_whitespace().nth(36).unwrap().parse().unwrap()
}

fn tell(what: &str, got: u64, expected: u64) {
    if got == expected {
        println!("{what}: ok");
    } else {
        println!("{what}: {got} instead of {expected}");
        std::process::exit(1);
    }
}

/// LOCK ADD and LOCK XADD, one after another.
fn add(cpus: &Mutex<BTreeSet<u32>>) {
    let sum = AtomicU64::new(0);
    let drawn = AtomicU64::new(0);
    both(cpus, &|_| {
        sum.fetch_add(3, Ordering::Relaxed);
        // The result is used, so this one is an XADD.
        let ticket = sum.fetch_add(5, Ordering::Relaxed);
        drawn.fetch_xor(ticket & 1, Ordering::Relaxed);
    });
    tell("add", sum.into_inner(), 2 * ROUNDS * 8);
}

/// A lock that sleeps: compare-and-exchange, then the futex system call.
fn mutex(cpus: &Mutex<BTreeSet<u32>>) {
    let sum = Mutex::new(0_u64);
    both(cpus, &|_| *sum.lock().unwrap() += 1);
    tell("mutex", sum.into_inner().unwrap(), 2 * ROUNDS);
}

/// A lock that spins, around two numbers that are no atomics and must stay equal.
fn spin(cpus: &Mutex<BTreeSet<u32>>) {
    let locked = AtomicBool::new(false);
    let (one, other) = (AtomicU64::new(0), AtomicU64::new(0));
    both(cpus, &|_| {
        while locked
            .compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            // Whoever waits on the only free CPU would wait for a whole time slice.
            thread::yield_now();
        }
        // Loads and stores apart: only the lock makes them one step.
        let next = one.load(Ordering::Relaxed) + 1;
        one.store(next, Ordering::Relaxed);
        let next = other.load(Ordering::Relaxed) + 1;
        other.store(next, Ordering::Relaxed);
        locked.store(false, Ordering::Release);
    });
    tell("spin", one.into_inner() + other.into_inner(), 4 * ROUNDS);
}

/// Two threads take turns through a condition variable: no wake-up may be lost, or this never ends.
fn turns() {
    let turns = 5_000;
    let turn = Mutex::new(0_u64);
    let changed = Condvar::new();
    thread::scope(|scope| {
        for parity in [0, 1] {
            let (turn, changed) = (&turn, &changed);
            scope.spawn(move || {
                let mut turn = turn.lock().unwrap();
                while *turn < turns {
                    if *turn % 2 == parity {
                        *turn += 1;
                        changed.notify_one();
                    } else {
                        turn = changed.wait(turn).unwrap();
                    }
                }
                changed.notify_one();
            });
        }
    });
    tell("turns", turn.into_inner().unwrap(), turns);
}

/// x86 keeps the order of stores and that of loads: who sees the flag of a round sees its data.
fn order() {
    let data = AtomicU64::new(0);
    let flag = AtomicU64::new(0);
    let stale = thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=ROUNDS {
                data.store(round, Ordering::Relaxed);
                flag.store(round, Ordering::Release);
            }
        });
        let reader = scope.spawn(|| {
            let stale = Cell::new(0_u64);
            loop {
                let seen = flag.load(Ordering::Acquire);
                if data.load(Ordering::Relaxed) < seen {
                    stale.set(stale.get() + 1);
                }
                if seen == ROUNDS {
                    return stale.get();
                }
            }
        });
        reader.join().unwrap()
    });
    tell("order", stale, 0);
}
