use super::*;
use crate::chipset::mailbox::{Delivery, Destination, Message, Vectors, deliver};
use crate::engine::fake::{Event, Fake, Log, Step};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::SeqCst};
use std::thread;
use std::time::Instant;

/// Mailboxes, real time, and a record of what reached the machine.
struct Bench {
    boxes: Vec<Arc<Mailbox>>,
    start: Instant,
    stop: AtomicBool,
    /// The 8259 pair's next vector; zero is none.
    pic: AtomicU8,
    seen: Mutex<Vec<String>>,
}

impl Bench {
    fn new(cpus: usize) -> Arc<Self> {
        Arc::new(Self {
            boxes: (0..cpus).map(|_| Arc::default()).collect(),
            start: Instant::now(),
            stop: AtomicBool::new(false),
            pic: AtomicU8::new(0),
            seen: Mutex::default(),
        })
    }

    fn note(&self, what: String) {
        self.seen.lock().unwrap().push(what);
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    fn post(&self, delivery: Delivery, vector: u8) -> bool {
        self.post_to(Destination::Everyone, delivery, vector)
    }

    fn post_to(&self, to: Destination, delivery: Delivery, vector: u8) -> bool {
        let message = Message {
            to,
            delivery,
            vector,
            level: false,
        };
        deliver(&self.boxes, None, &message)
    }

    /// Runs CPU 0 with this script until the script is over.
    fn run(&self, steps: Vec<Step>) -> Vec<Event> {
        self.run_fake(Fake::new(steps))
    }

    fn run_fake(&self, fake: Fake) -> Vec<Event> {
        let log = fake.log();
        let mut cpu = Processor::new(0, Box::new(fake), self.boxes[0].clone());
        let ended = cpu.run(self);
        assert_eq!(ended, Ended::Fault("the script is over".into()));
        log.all()
    }

    fn stop(&self) {
        self.stop.store(true, SeqCst);
        self.boxes.iter().for_each(|mailbox| mailbox.nudge());
    }
}

impl Platform for Bench {
    fn now(&self) -> Nanos {
        Nanos(self.start.elapsed().as_nanos() as u64)
    }
    fn must_stop(&self) -> bool {
        self.stop.load(SeqCst)
    }
    fn reset_machine(&self) {
        self.note("reset".into());
        self.stop();
    }
    fn port_read(&self, port: u16, width: Width) -> u32 {
        self.note(format!("in {port:#x} {width:?}"));
        0x5a
    }
    fn port_write(&self, port: u16, _: Width, value: u32) {
        self.note(format!("out {port:#x} {value:#x}"));
    }
    fn mmio_read(&self, gpa: u64, _: Width) -> u64 {
        self.note(format!("read {gpa:#x}"));
        0xa5
    }
    fn mmio_write(&self, gpa: u64, _: Width, value: u64) {
        self.note(format!("write {gpa:#x} {value:#x}"));
    }
    fn send(&self, from: usize, message: &Message) {
        deliver(&self.boxes, Some(from), message);
    }
    fn end_of_interrupt(&self, vector: u8) {
        self.note(format!("eoi {vector:#x}"));
    }
    fn redirected(&self, unserved: &Vectors) {
        self.note(format!(
            "redirected {:?}",
            unserved.iter().collect::<Vec<_>>()
        ));
    }
    fn acknowledge(&self) -> Option<u8> {
        let vector = self.pic.swap(0, SeqCst);
        self.boxes[0].set_lint(0, false);
        (vector != 0).then_some(vector)
    }
}

fn write(offset: u64, value: u64) -> Step {
    do_io(move |io| io.mmio_write(0xfee0_0000 + offset, Width::Dword, value))
}

fn enable() -> Step {
    write(0xf0, 0x1ff)
}

fn timer_ns(mode: u64, ns: u64) -> [Step; 3] {
    [
        write(0x3e0, 0xb),
        write(0x320, mode | 0xec),
        write(0x380, ns / 10),
    ]
}

fn do_io(act: impl FnMut(&mut dyn Io) + 'static) -> Step {
    Step::Do(Box::new(act))
}

fn interrupts(events: &[Event]) -> Vec<u8> {
    let vector = |event: &Event| match event {
        Event::Interrupt(vector) => Some(*vector),
        _ => None,
    };
    events.iter().filter_map(vector).collect()
}

#[test]
fn halt_sleeps_until_the_timer() {
    let bench = Bench::new(1);
    let mut steps = vec![enable(), Step::Sti];
    steps.extend(timer_ns(0, 20_000_000));
    steps.push(Step::Halt);
    assert_eq!(interrupts(&bench.run(steps)), [0xec]);
    assert!(bench.now() >= Nanos(20_000_000));
}

#[test]
fn a_periodic_timer_interrupts_a_spinning_cpu_again_and_again() {
    let bench = Bench::new(1);
    let mut steps = vec![enable(), Step::Sti];
    steps.extend(timer_ns(0x2_0000, 500_000));
    steps.extend([Step::Spin, Step::Spin, Step::Halt, Step::Spin]);
    let taken = interrupts(&bench.run(steps));
    assert!(taken.len() >= 3 && taken.iter().all(|&vector| vector == 0xec));
}

#[test]
fn a_deadline_armed_while_running_is_kept() {
    let bench = Bench::new(1);
    let steps = vec![
        enable(),
        Step::Sti,
        write(0x320, 0x4_00ec),
        do_io(|io| {
            let deadline = io.now() + 3_600_000_000_000;
            io.msr_write(0x6e0, deadline.0).unwrap();
        }),
        do_io(|io| {
            let deadline = io.now() + 5_000_000;
            io.msr_write(0x6e0, deadline.0).unwrap();
        }),
        Step::Spin,
    ];
    assert_eq!(interrupts(&bench.run(steps)), [0xec]);
}

#[test]
fn a_closed_cpu_is_interrupted_when_the_window_opens() {
    let bench = Bench::new(1);
    let posts = [bench.clone(), bench.clone()];
    let [first, second] = posts;
    let steps = vec![
        enable(),
        do_io(move |_| assert!(first.post(Delivery::Fixed, 0x40))),
        do_io(move |_| assert!(second.post(Delivery::Fixed, 0x60))),
        Step::Leave(Exit::Kicked),
        Step::Sti,
        Step::Spin,
    ];
    let events = bench.run(steps);
    assert_eq!(interrupts(&events), [0x60, 0x40]);
    let windows: Vec<_> = events
        .iter()
        .filter(|event| matches!(event, Event::Window(_)))
        .collect();
    assert_eq!(windows, [&Event::Window(true), &Event::Window(false)]);
}

#[test]
fn the_end_of_one_interrupt_lets_the_next_in() {
    let bench = Bench::new(1);
    let post = bench.clone();
    let fake = Fake::new(vec![
        enable(),
        do_io(move |_| {
            post.post(Delivery::Fixed, 0x61);
            post.post(Delivery::Fixed, 0x62);
        }),
        Step::Sti,
        Step::Spin,
        // The second is of the same class: only this EOI lets it in.
        write(0xb0, 0),
        Step::Spin,
    ])
    .with_handler(|_, _| {});
    assert_eq!(interrupts(&bench.run_fake(fake)), [0x62, 0x61]);
}

#[test]
fn a_lowered_task_priority_lets_an_interrupt_in() {
    let bench = Bench::new(1);
    let post = bench.clone();
    let steps = vec![
        enable(),
        Step::Sti,
        do_io(|io| io.set_cr8(7)),
        do_io(move |_| assert!(post.post(Delivery::Fixed, 0x71))),
        Step::Leave(Exit::Kicked),
        do_io(|io| {
            assert_eq!(io.cr8(), 7);
            io.set_cr8(6);
        }),
        Step::Spin,
    ];
    assert_eq!(interrupts(&bench.run(steps)), [0x71]);
}

#[test]
fn an_nmi_wakes_a_closed_cpu_and_blocks_until_iret() {
    let bench = Bench::new(1);
    let [first, second] = [bench.clone(), bench.clone()];
    let steps = vec![
        do_io(move |_| {
            let bench = first.clone();
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(5));
                bench.post(Delivery::Nmi, 0);
            });
        }),
        Step::Halt,
        do_io(move |_| {
            second.post(Delivery::Nmi, 0);
            second.post(Delivery::Nmi, 0);
        }),
        Step::Leave(Exit::Kicked),
        Step::Leave(Exit::PortIn {
            port: 1,
            width: Width::Byte,
        }),
        Step::Iret,
        Step::Leave(Exit::Kicked),
    ];
    let events = bench.run(steps);
    assert_eq!(events, [Event::Nmi, Event::Read(0x5a), Event::Nmi]);
}

#[test]
fn the_pics_vector_is_fetched_when_it_is_taken() {
    let bench = Bench::new(1);
    let [raise, change, lower] = [bench.clone(), bench.clone(), bench.clone()];
    let steps = vec![
        write(0xf0, 0x1ff),
        write(0x350, 0x700),
        do_io(move |_| {
            raise.pic.store(0x30, SeqCst);
            raise.boxes[0].set_lint(0, true);
        }),
        Step::Leave(Exit::Kicked),
        do_io(move |_| change.pic.store(0x31, SeqCst)),
        Step::Sti,
        Step::Spin,
        Step::Cli,
        // Gone before it was taken: nothing happens.
        do_io(move |_| {
            lower.boxes[0].set_lint(0, true);
            lower.boxes[0].set_lint(0, false);
        }),
        Step::Leave(Exit::Kicked),
        Step::Sti,
        Step::Leave(Exit::Kicked),
    ];
    assert_eq!(interrupts(&bench.run(steps)), [0x31]);
}

#[test]
fn a_level_is_ended_at_the_io_apic() {
    let bench = Bench::new(1);
    let post = bench.clone();
    let steps = vec![
        enable(),
        Step::Sti,
        do_io(move |_| {
            let message = Message {
                to: Destination::Physical(0),
                delivery: Delivery::Fixed,
                vector: 0x55,
                level: true,
            };
            assert!(deliver(&post.boxes, None, &message));
        }),
        Step::Spin,
    ];
    assert_eq!(interrupts(&bench.run(steps)), [0x55]);
    assert_eq!(bench.seen(), ["redirected []", "eoi 0x55"]);
}

#[test]
fn accesses_that_are_exits_are_completed() {
    let bench = Bench::new(1);
    let (width, port) = (Width::Dword, 0xcf8);
    let steps = [
        Exit::PortIn { port, width },
        Exit::PortOut {
            port,
            width,
            value: 7,
        },
        Exit::MmioRead {
            gpa: 0xfed0_0000,
            width,
        },
        Exit::MmioWrite {
            gpa: 0xfed0_0010,
            width,
            value: 1,
        },
        Exit::MmioRead {
            gpa: 0xfee0_0030,
            width,
        },
        Exit::MmioWrite {
            gpa: 0xfee0_00f0,
            width,
            value: 0x1ff,
        },
        Exit::MsrRead { msr: 0x1b },
        Exit::MsrRead { msr: 0x802 },
        Exit::MsrWrite {
            msr: 0x1b,
            value: 0xfee0_0d00,
        },
        Exit::MsrRead { msr: 0x802 },
        Exit::MsrWrite {
            msr: 0x80b,
            value: 1,
        },
    ];
    let events = bench.run(steps.into_iter().map(Step::Leave).collect());
    use Event::{Msr, Read};
    let expected = [
        Read(0x5a),
        Read(0xa5),
        Read(0x0105_0015),
        Msr(Some(0xfee0_0900)),
        Msr(None),
        Msr(Some(0)),
        Msr(Some(0)),
        Msr(None),
    ];
    assert_eq!(events, expected);
    let seen = [
        "in 0xcf8 Dword",
        "out 0xcf8 0x7",
        "read 0xfed00000",
        "write 0xfed00010 0x1",
        "redirected []",
        "redirected []",
    ];
    assert_eq!(bench.seen(), seen);
}

#[test]
fn a_triple_fault_ends_it() {
    let bench = Bench::new(1);
    let fake = Fake::new(vec![Step::Leave(Exit::TripleFault)]);
    let mut cpu = Processor::new(0, Box::new(fake), bench.boxes[0].clone());
    assert_eq!(cpu.run(&*bench), Ended::TripleFault);
}

#[test]
fn an_init_of_the_boot_processor_resets_the_machine() {
    let bench = Bench::new(1);
    let post = bench.clone();
    let fake = Fake::new(vec![
        do_io(move |_| assert!(post.post(Delivery::Init, 0))),
        Step::Spin,
    ]);
    let mut cpu = Processor::new(0, Box::new(fake), bench.boxes[0].clone());
    assert_eq!(cpu.run(&*bench), Ended::Stopped);
    assert_eq!(bench.seen(), ["reset"]);
}

/// Runs CPU `index` on a thread of its own until the bench stops.
fn spawn(
    bench: &Arc<Bench>,
    index: u8,
    steps: fn() -> Vec<Step>,
) -> (Log, thread::JoinHandle<Ended>) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let bench = bench.clone();
    let thread = thread::spawn(move || {
        let fake = Fake::new(steps());
        sender.send(fake.log()).unwrap();
        let mailbox = bench.boxes[usize::from(index)].clone();
        Processor::new(index, Box::new(fake), mailbox).run(&*bench)
    });
    (receiver.recv().unwrap(), thread)
}

#[test]
fn init_and_start_up_start_and_restart_an_ap() {
    let bench = Bench::new(2);
    let (log, thread) = spawn(&bench, 1, || vec![Step::Sti, Step::Spin]);
    while !bench.post_to(Destination::Physical(1), Delivery::StartUp, 1) {
        thread::yield_now();
    }
    let ap = Destination::Physical(1);
    assert!(
        log.wait(&Event::Started(1), 1),
        "waits for start-up at power-on"
    );
    bench.post_to(ap, Delivery::StartUp, 7);
    for page in [2, 3] {
        bench.post_to(ap, Delivery::Init, 0);
        bench.post_to(ap, Delivery::StartUp, page);
        bench.post_to(ap, Delivery::StartUp, page);
        assert!(log.wait(&Event::Started(page), 1));
    }
    bench.post_to(ap, Delivery::Init, 0);
    assert!(log.wait(&Event::Reset(Reset::Init), 3));
    bench.stop();
    assert_eq!(thread.join().unwrap(), Ended::Stopped);
    let starts = log
        .all()
        .iter()
        .filter(|e| matches!(e, Event::Started(_)))
        .count();
    assert_eq!(starts, 3);
}

/// Who sends does not matter, nor how often or to how many: one AP starts another, which starts all others at once.
#[test]
fn any_cpu_starts_any_other_and_one_command_starts_all() {
    fn start(shorthand: u64, to: u64, page: u64) -> [Step; 3] {
        [
            write(0x310, to << 24),
            write(0x300, shorthand << 18 | 0x4500),
            write(0x300, shorthand << 18 | 0x4600 | page),
        ]
    }
    let unicast = || {
        let mut steps = vec![enable(), Step::Sti, Step::Spin];
        steps.extend(start(0, 2, 2));
        steps.extend([Step::Spin, Step::Spin]);
        steps
    };
    let broadcast = || {
        let mut steps = vec![enable(), Step::Sti, Step::Spin];
        steps.extend(start(3, 0, 3));
        steps.extend([Step::Spin, Step::Spin]);
        steps
    };
    let bench = Bench::new(4);
    let (log1, thread1) = spawn(&bench, 1, unicast);
    let (log2, thread2) = spawn(&bench, 2, broadcast);
    let (log3, thread3) = spawn(&bench, 3, broadcast);
    let go = |cpu: usize| {
        while !bench.boxes[cpu].identity().accepting {
            thread::yield_now();
        }
        assert!(bench.post_to(Destination::Physical(cpu as u32), Delivery::Fixed, 0x40));
    };
    let (one, all) = (Event::Started(2), Event::Started(3));
    bench.post_to(Destination::Physical(1), Delivery::StartUp, 1);
    go(1);
    assert!(log2.wait(&one, 1), "an AP starts another");
    go(2);
    assert!(log1.wait(&all, 1) && log3.wait(&all, 1), "and that all");
    go(3);
    assert!(log1.wait(&all, 2) && log2.wait(&all, 1), "and again");
    bench.stop();
    for thread in [thread1, thread2, thread3] {
        assert_eq!(thread.join().unwrap(), Ended::Stopped);
    }
    let inits = |log: &Log| {
        let events = log.all();
        let is_init = |event: &&Event| **event == Event::Reset(Reset::Init);
        events.iter().filter(is_init).count()
    };
    assert_eq!([&log1, &log2, &log3].map(inits), [2, 2, 1]);
}

fn ping_pong(steps: fn() -> Vec<Step>) {
    let bench = Bench::new(1);
    let (log, thread) = spawn(&bench, 0, steps);
    while !bench.boxes[0].identity().accepting {
        thread::yield_now();
    }
    for count in 1..=3_000 {
        assert!(bench.post(Delivery::Fixed, 0x40));
        assert!(
            log.wait(&Event::Interrupt(0x40), count),
            "wake-up {count} was lost"
        );
    }
    bench.stop();
    assert_eq!(thread.join().unwrap(), Ended::Stopped);
}

#[test]
fn no_wake_up_of_a_halted_cpu_is_lost() {
    ping_pong(|| {
        let mut steps = vec![enable(), Step::Sti];
        steps.extend((0..4_000).map(|_| Step::Halt));
        steps
    });
}

#[test]
fn no_kick_of_a_spinning_cpu_is_lost() {
    ping_pong(|| vec![enable(), Step::Sti, Step::Spin, Step::Again]);
}

#[test]
fn two_senders_lose_nothing() {
    let bench = Bench::new(1);
    let (log, thread) = spawn(&bench, 0, || {
        let mut steps = vec![enable(), Step::Sti];
        steps.extend((0..40_000).map(|_| Step::Halt));
        steps
    });
    while !bench.boxes[0].identity().accepting {
        thread::yield_now();
    }
    let senders = [0x40, 0x90].map(|vector| {
        let (bench, log) = (bench.clone(), log.clone());
        thread::spawn(move || {
            (1..=1_000).all(|count| {
                bench.post(Delivery::Fixed, vector) && log.wait(&Event::Interrupt(vector), count)
            })
        })
    });
    for sender in senders {
        assert!(sender.join().unwrap(), "a wake-up was lost");
    }
    bench.stop();
    assert_eq!(thread.join().unwrap(), Ended::Stopped);
}

#[test]
fn two_cpus_play_tennis() {
    fn serve(to: u64) -> Step {
        write(0x300, 0xc_0000 | to)
    }
    let bench = Bench::new(2);
    let (log0, thread0) = spawn(&bench, 0, || {
        vec![
            enable(),
            Step::Sti,
            Step::Leave(Exit::Kicked),
            Step::Spin,
            serve(0x41),
            Step::Spin,
            serve(0x41),
            Step::Spin,
            Step::Spin,
        ]
    });
    let (log1, thread1) = spawn(&bench, 1, || {
        vec![
            enable(),
            Step::Sti,
            serve(0x40),
            Step::Spin,
            serve(0x40),
            Step::Spin,
            serve(0x40),
            Step::Spin,
        ]
    });
    while !bench.boxes[0].identity().accepting {
        thread::yield_now();
    }
    // Nobody hears a start-up before the other thread has switched its LAPIC on.
    while !bench.post_to(Destination::Physical(1), Delivery::StartUp, 0) {
        thread::yield_now();
    }
    assert!(log0.wait(&Event::Interrupt(0x40), 3));
    assert!(log1.wait(&Event::Interrupt(0x41), 2));
    bench.stop();
    assert_eq!(thread0.join().unwrap(), Ended::Stopped);
    assert_eq!(thread1.join().unwrap(), Ended::Stopped);
}
