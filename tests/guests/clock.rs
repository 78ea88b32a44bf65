//! Time-keeping: every clock of the machine against the host's, on every engine.
//!
//! The guest (`clock.S`) reads all of them side by side. Here each is followed by the TSC, which bridges the wraps of
//! the narrow ones, and the TSC by the host's clock. A busy host delays what it hears of the guest, but never hears
//! it early, so it is the quickest samples of the first and the last third that are compared. Where it was too busy for
//! even these, a measurement is made again, over a longer time: a clock that is wrong stays wrong.

use super::{Guest, Outcome, assemble, build, engines, serial_line};
use std::io::{BufRead, BufReader};
use std::thread;
use std::time::{Duration, Instant};
use xlaunch::layout::{HPET_HZ, LAPIC_TIMER_HZ, PIT_HZ, PM_TIMER_HZ};
use xlaunch::machine::Cables;
use xlaunch::spec::MachineSpec;

/// What the clocks may differ by: a few milliseconds a minute.
const TOLERANCE_PPM: f64 = 100.0;
/// How often a measurement is made, each over twice the time of the one before.
const ATTEMPTS: u32 = 3;
/// Seconds of the RTC that tell its pace.
const EDGES: usize = 30;
/// The LAPIC timer's divider in `clock.S`.
const LAPIC_DIVIDER: f64 = 16.0;

/// A line `T` of the guest.
struct Sample {
    /// When we read it, in seconds of the host.
    heard: f64,
    /// The TSC in the middle of it, and how long it took, in seconds by its rate.
    tsc: f64,
    took: f64,
    /// PM timer, HPET, LAPIC timer, 8254.
    counts: [u64; 4],
}

/// A clock as the guest reads it.
struct Clock {
    name: &'static str,
    hz: f64,
    /// Where its count begins anew.
    wrap: f64,
    down: bool,
}

const WORD: f64 = 4_294_967_296.0;

const CLOCKS: [Clock; 4] = [
    Clock {
        name: "PM timer",
        hz: PM_TIMER_HZ as f64,
        wrap: WORD,
        down: false,
    },
    Clock {
        name: "HPET",
        hz: HPET_HZ as f64,
        wrap: WORD,
        down: false,
    },
    Clock {
        name: "LAPIC timer",
        hz: LAPIC_TIMER_HZ as f64 / LAPIC_DIVIDER,
        wrap: WORD,
        down: true,
    },
    Clock {
        name: "8254",
        hz: PIT_HZ as f64,
        wrap: 65536.0,
        down: true,
    },
];

#[test]
fn the_clocks_agree_with_the_host() {
    keep_time(Duration::from_secs(6));
}

#[test]
fn long_the_clocks_agree_with_the_host_over_a_minute() {
    if std::env::var_os("XLAUNCH_LONG").is_none_or(|it| it != "1") {
        return println!("skipped: takes a minute; scripts/test --long runs it");
    }
    keep_time(Duration::from_secs(63));
}

fn keep_time(length: Duration) {
    let guest = Guest::new("clock");
    let kernel = match assemble(guest.name) {
        Ok(kernel) => kernel,
        Err(why) => return println!("skipped: {why}"),
    };
    for engine in engines(guest.name) {
        let spec = guest.spec(&kernel, engine);
        let lengths = (0..ATTEMPTS).map(|attempt| length * (1 << attempt));
        let mut verdicts = lengths.map(|length| {
            println!("on {engine:?}, {length:?}:");
            let (samples, edges) = watch(&spec, length);
            judge(&samples, &edges)
        });
        if !verdicts.any(|verdict| verdict.is_ok()) {
            panic!("{engine:?}: a clock differs by more than {TOLERANCE_PPM} ppm, each time");
        }
    }
}

/// What a machine of this kind says in this time.
fn watch(spec: &MachineSpec, length: Duration) -> (Vec<Sample>, Vec<f64>) {
    let (com1, output, _) = serial_line();
    let cables = Cables {
        com1,
        ..Cables::unplugged()
    };
    let hook = output.hook();
    let machine = build(spec, cables).unwrap();
    let started = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(length);
            machine.stop();
            assert_eq!(machine.wait(), Outcome::Stopped);
            hook.hang_up();
        });
        listen(BufReader::new(output), started)
    })
}

/// The guest's lines until its machine ends: samples, and the TSC at each second of the RTC, in seconds.
fn listen(lines: impl BufRead, started: Instant) -> (Vec<Sample>, Vec<f64>) {
    let (mut samples, mut edges) = (Vec::new(), Vec::new());
    let mut tsc_hz = f64::NAN;
    for line in lines.lines().map_while(Result::ok) {
        let heard = started.elapsed().as_secs_f64();
        let fields = line[1..].split_whitespace();
        let numbers: Vec<u64> = fields
            .map(|it| u64::from_str_radix(it, 16).unwrap())
            .collect();
        let ticks = |high: usize| (numbers[high] << 32 | numbers[high + 1]) as f64;
        let long = |high: usize| ticks(high) / tsc_hz;
        match (&line[..1], numbers.len()) {
            ("C", 1) => tsc_hz = numbers[0] as f64 * 1e3,
            ("T", 8) => samples.push(Sample {
                heard,
                tsc: (long(0) + long(6)) / 2.0,
                took: long(6) - long(0),
                counts: numbers[2..6].try_into().unwrap(),
            }),
            ("R", 2) => edges.push(long(0)),
            // The last line may have been cut short by the end.
            _ => {}
        }
    }
    (samples, edges)
}

/// A clock that differs by too much is an error.
fn judge(samples: &[Sample], edges: &[f64]) -> Result<(), ()> {
    let tsc = |sample: &Sample| sample.tsc;
    // How much later than the guest's the host's clock is: the quickest sample is nearest to the truth.
    let late = samples
        .iter()
        .map(|it| (tsc(it), it.heard - tsc(it)))
        .collect();
    report("TSC against the host", drift(late))?;
    // It tells whole seconds: in a short run one that a busy host shows late would count for too much.
    assert!(edges.len() > 3, "the RTC has changed {} times", edges.len());
    let ideal = edges.iter().zip(0..);
    let late = ideal.map(|(edge, n)| (f64::from(n), edge - f64::from(n)));
    let late: Vec<(f64, f64)> = late.collect();
    if late.len() >= EDGES {
        report("RTC", drift(late))?;
    }
    // Those during which the guest was not held up.
    let mut quick: Vec<&Sample> = samples.iter().collect();
    quick.sort_by(|a, b| a.took.total_cmp(&b.took));
    quick.truncate(samples.len() / 2);
    quick.sort_by(|a, b| a.tsc.total_cmp(&b.tsc));
    for (index, clock) in CLOCKS.iter().enumerate() {
        let late = quick
            .iter()
            .map(|it| (tsc(it), clock.late(it, quick[0], index)));
        report(clock.name, drift(late.collect()))?;
    }
    Ok(())
}

impl Clock {
    /// How many seconds the clock has fallen behind the TSC since the first sample.
    fn late(&self, sample: &Sample, first: &Sample, index: usize) -> f64 {
        let counted = sample.counts[index] as f64 - first.counts[index] as f64;
        let counted = if self.down { -counted } else { counted };
        let expected = (sample.tsc - first.tsc) * self.hz;
        let wraps = ((expected - counted) / self.wrap).round();
        (expected - counted - wraps * self.wrap) / self.hz
    }
}

/// The drift of a clock in millionths, from pairs of a time and how late the clock was then: between the least of the first
/// third and the least of the last.
fn drift(late: Vec<(f64, f64)>) -> f64 {
    let third = late.len() / 3;
    assert!(third > 0, "the guest has said too little");
    let least = |part: &[(f64, f64)]| {
        part.iter()
            .copied()
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .unwrap()
    };
    let (first, last) = (least(&late[..third]), least(&late[late.len() - third..]));
    (last.1 - first.1) / (last.0 - first.0) * 1e6
}

fn report(name: &str, ppm: f64) -> Result<(), ()> {
    println!("{name}: {ppm:+.2} ppm");
    (ppm.abs() < TOLERANCE_PPM).then_some(()).ok_or(())
}

#[test]
fn a_clock_that_runs_wrong_is_found() {
    let sample = |seconds: f64, ppm: f64| Sample {
        heard: 1.0 + seconds,
        tsc: seconds,
        took: 100.0,
        counts: CLOCKS.map(|clock| {
            let counted = (seconds * clock.hz * (1.0 + ppm / 1e6)).round();
            let shown = if clock.down { -counted } else { counted };
            shown.rem_euclid(clock.wrap) as u64
        }),
    };
    for ppm in [0.0, 150.0, -150.0] {
        let samples: Vec<Sample> = (0..600).map(|n| sample(f64::from(n) / 10.0, ppm)).collect();
        for (index, clock) in CLOCKS.iter().enumerate() {
            let late = samples
                .iter()
                .map(|it| (it.tsc, clock.late(it, &samples[0], index)));
            let found = drift(late.collect());
            assert!(
                (found + ppm).abs() < 2.0,
                "{}: {found} for {ppm}",
                clock.name
            );
        }
    }
}
