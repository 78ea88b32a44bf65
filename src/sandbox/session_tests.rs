use super::*;
use guest::protocol::Refusal;

const WINDOW_OF_OURS: Window = Window {
    rows: 24,
    columns: 80,
};

struct Bench {
    session: Session,
    start: Instant,
    now: Instant,
}

impl Bench {
    fn new(start: Start, limit: Option<Duration>) -> Self {
        let now = Instant::now();
        Self {
            session: Session::new(start, limit, now),
            start: now,
            now,
        }
    }

    fn running(argv: &[&str]) -> Self {
        let argv = argv.iter().map(|it| it.as_bytes().to_vec()).collect();
        let start = Start {
            argv,
            ..Start::default()
        };
        let mut bench = Self::new(start, None);
        bench.on(Event::Frame(Frame::Hello(VERSION)));
        bench
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
        self.session.on(event, self.now)
    }

    fn frame(&mut self, frame: Frame) -> Vec<Action> {
        self.on(Event::Frame(frame))
    }

    fn output(&mut self, stream: Stream, count: usize) -> Vec<Action> {
        self.frame(Frame::Data(stream, vec![b'x'; count]))
    }

    /// Moves time to the session's deadline and tells it.
    fn expire(&mut self) -> Vec<Action> {
        self.now = self.session.deadline().expect("a deadline");
        self.on(Event::Deadline)
    }

    /// Everything that follows the machine's end.
    fn die(&mut self, end: MachineEnd) -> Vec<Action> {
        let mut actions = self.on(Event::Machine(end));
        actions.extend(self.on(Event::LinkEnded));
        actions.extend(self.on(Event::ConsoleEnded));
        actions
    }
}

fn verdict(actions: &[Action]) -> &Verdict {
    match actions {
        [Action::Finish(verdict)] => verdict,
        other => panic!("{other:?}"),
    }
}

fn sentence(actions: &[Action]) -> String {
    verdict(actions).to_string()
}

#[test]
fn an_ordinary_run_ends_with_the_commands_code_after_its_output() {
    let mut bench = Bench::new(Start::default(), None);
    assert_eq!(
        bench.frame(Frame::Hello(VERSION)),
        [
            Action::TellTime,
            Action::Send(Frame::Start(Start::default())),
            Action::AllowInput(WINDOW)
        ]
    );
    let write = Action::Write(Stream::Stdout, b"xxx".to_vec());
    assert_eq!(bench.output(Stream::Stdout, 3), [write]);
    assert_eq!(bench.frame(Frame::End(Stream::Stdout)), []);
    assert_eq!(bench.frame(Frame::Exited(7)), []);
    let off = [Action::Send(Frame::PowerOff)];
    assert_eq!(bench.on(Event::Passed(Stream::Stdout, 3)), off);
    let end = bench.on(Event::Machine(MachineEnd::PoweredOff));
    assert_eq!(verdict(&end), &Verdict::Exited(7));
    assert_eq!(bench.on(Event::Signalled(2)), []);
}

#[test]
fn what_happened_when_is_remembered() {
    let mut bench = Bench::new(Start::default(), None);
    let start = bench.start;
    let mut step = |event| {
        bench.now += Duration::from_secs(1);
        bench.on(event)
    };
    step(Event::Frame(Frame::Hello(VERSION)));
    assert_eq!(step(Event::Frame(Frame::Booted(2, 3))), []);
    assert_eq!(step(Event::Frame(Frame::Started)), []);
    step(Event::Frame(Frame::Exited(7)));
    step(Event::Machine(MachineEnd::PoweredOff));
    let at = |seconds| Some(start + Duration::from_secs(seconds));
    let expected = Moments {
        greeted: at(1),
        guest_clock: Some((Duration::from_micros(2), Duration::from_micros(3))),
        started: at(3),
        ended: at(4),
        machine_ended: at(5),
    };
    assert_eq!(bench.session.moments(), &expected);
}

#[test]
fn a_guest_that_does_not_power_off_is_not_waited_for() {
    let mut bench = Bench::running(&["true"]);
    assert_eq!(
        bench.frame(Frame::Killed(9)),
        [Action::Send(Frame::PowerOff)]
    );
    assert_eq!(verdict(&bench.expire()), &Verdict::Killed(9));
    assert_eq!(bench.now - bench.start, GRACE);
}

#[test]
fn a_guest_whose_disks_keep_what_it_writes_gets_time_to_write_it() {
    let mut bench = Bench::running(&["true"]);
    bench.session = bench.session.keeping();
    bench.frame(Frame::Killed(9));
    assert_eq!(verdict(&bench.expire()), &Verdict::Killed(9));
    assert_eq!(bench.now - bench.start, KEEPING_GRACE);
}

#[test]
fn a_refused_command_is_a_verdict_like_any_other() {
    let mut bench = Bench::running(&["nonsense"]);
    bench.frame(Frame::Refused(Refusal::NotFound, "no nonsense".to_owned()));
    let end = bench.on(Event::Machine(MachineEnd::PoweredOff));
    assert_eq!(
        (verdict(&end).code(), sentence(&end)),
        (127, "no nonsense".to_owned())
    );
}

#[test]
fn a_terminal_is_taken_when_the_command_starts_and_resized_from_then_on() {
    let start = Start {
        terminal: Some(WINDOW_OF_OURS),
        ..Start::default()
    };
    let mut bench = Bench::new(start.clone(), None);
    let grown = Window {
        rows: 50,
        columns: 100,
    };
    assert_eq!(bench.on(Event::Resized(grown)), []);
    let started = Start {
        terminal: Some(grown),
        ..start
    };
    assert_eq!(
        bench.frame(Frame::Hello(VERSION)),
        [
            Action::TellTime,
            Action::TakeTerminal,
            Action::Send(Frame::Start(started)),
            Action::AllowInput(WINDOW)
        ]
    );
    let resize = Action::Send(Frame::Resize(WINDOW_OF_OURS));
    assert_eq!(bench.on(Event::Resized(WINDOW_OF_OURS)), [resize]);
    assert_eq!(
        Bench::running(&["true"]).on(Event::Resized(WINDOW_OF_OURS)),
        []
    );
}

#[test]
fn input_goes_in_as_the_guest_takes_it() {
    let mut bench = Bench::running(&["cat"]);
    let data = Frame::Data(Stream::Stdin, b"abc".to_vec());
    assert_eq!(
        bench.on(Event::Input(b"abc".to_vec())),
        [Action::Send(data)]
    );
    assert_eq!(
        bench.frame(Frame::Credit(Stream::Stdin, 2)),
        [Action::AllowInput(2)]
    );
    let end = Action::Send(Frame::End(Stream::Stdin));
    assert_eq!(bench.on(Event::InputEnded), [end]);
    assert_eq!(
        bench.frame(Frame::Closed(Stream::Stdin)),
        [Action::StopInput]
    );
    assert_eq!(
        verdict(&bench.frame(Frame::Credit(Stream::Stdin, 2))).code(),
        125
    );
}

#[test]
fn output_beyond_the_window_is_refused_whatever_was_passed_on() {
    let mut bench = Bench::running(&["yes"]);
    let window = WINDOW as usize;
    assert_eq!(bench.output(Stream::Stderr, window).len(), 1);
    assert_eq!(bench.output(Stream::Stdout, window).len(), 1);
    let passed = bench.on(Event::Passed(Stream::Stdout, WINDOW / 4 - 1));
    assert_eq!(passed, []);
    assert_eq!(verdict(&bench.output(Stream::Stdout, 1)).code(), 125);

    let mut bench = Bench::running(&["yes"]);
    bench.output(Stream::Stdout, window);
    let credit = Action::Send(Frame::Credit(Stream::Stdout, WINDOW / 4));
    assert_eq!(
        bench.on(Event::Passed(Stream::Stdout, WINDOW / 4)),
        [credit]
    );
    assert_eq!(bench.output(Stream::Stdout, window / 4).len(), 1);
}

#[test]
fn a_reader_that_is_gone_is_told_to_the_guest_and_its_output_dropped() {
    let mut bench = Bench::running(&["yes"]);
    bench.output(Stream::Stdout, 100);
    let closed = Action::Send(Frame::Closed(Stream::Stdout));
    assert_eq!(bench.on(Event::ReaderGone(Stream::Stdout)), [closed]);
    assert_eq!(bench.output(Stream::Stdout, 100), []);
    assert_eq!(
        bench.frame(Frame::Killed(13)),
        [Action::Send(Frame::PowerOff)]
    );
}

#[test]
fn our_own_end_comes_at_once() {
    let ends = [
        (Event::Escaped, 130),
        (Event::OutputFailed("full".to_owned()), 125),
        (Event::LinkBroken("a frame".to_owned()), 125),
        (Event::Machine(MachineEnd::Failed("broken".to_owned())), 125),
    ];
    for (event, code) in ends {
        let mut bench = Bench::running(&["true"]);
        assert_eq!(verdict(&bench.on(event)).code(), code);
    }
}

fn signal(number: u8) -> Action {
    Action::Send(Frame::Signal(number))
}

#[test]
fn signals_are_the_commands_where_it_has_no_terminal() {
    for number in [1, 2, 3, 10, 12] {
        let mut bench = Bench::running(&["true"]);
        assert_eq!(bench.on(Event::Signalled(number)), [signal(number)]);
        bench.frame(Frame::Killed(number));
        let end = bench.on(Event::Machine(MachineEnd::PoweredOff));
        assert_eq!(verdict(&end).code(), 128 + number);
    }
}

#[test]
fn signals_end_what_has_a_terminal_or_no_command_yet() {
    let start = Start {
        terminal: Some(WINDOW_OF_OURS),
        ..Start::default()
    };
    for number in [1, 2, 3] {
        let mut bench = Bench::new(start.clone(), None);
        bench.frame(Frame::Hello(VERSION));
        let end = bench.on(Event::Signalled(number));
        assert_eq!(verdict(&end).code(), 128 + number);
    }
    for number in [1, 2, 3, 10, 12, 15] {
        let mut bench = Bench::new(Start::default(), None);
        let end = bench.on(Event::Signalled(number));
        assert_eq!(verdict(&end).code(), 128 + number);
    }
    let mut bench = Bench::new(start, None);
    bench.frame(Frame::Hello(VERSION));
    assert_eq!(bench.on(Event::Signalled(10)), [signal(10)]);
}

#[test]
fn once_the_command_is_over_only_signals_that_end_something_count() {
    let mut bench = Bench::running(&["true"]);
    bench.frame(Frame::Exited(0));
    assert_eq!(bench.on(Event::Signalled(10)), []);
    assert_eq!(verdict(&bench.on(Event::Signalled(2))).code(), 130);
}

#[test]
fn three_interrupts_at_once_end_a_command_that_ignores_them() {
    let mut bench = Bench::running(&["stubborn"]);
    let apart = IMPATIENCE;
    for _ in 0..5 {
        assert_eq!(bench.on(Event::Signalled(2)), [signal(2)]);
        bench.now += apart;
    }
    assert_eq!(bench.on(Event::Signalled(2)), [signal(2)]);
    assert_eq!(bench.on(Event::Signalled(2)), [signal(2)]);
    assert_eq!(verdict(&bench.on(Event::Signalled(2))).code(), 130);
}

#[test]
fn sigterm_is_the_power_button() {
    // The command heeds it.
    let mut bench = Bench::running(&["true"]);
    assert_eq!(bench.on(Event::Signalled(15)), [signal(15)]);
    let off = [Action::Send(Frame::PowerOff)];
    assert_eq!(bench.frame(Frame::Exited(3)), off);
    let end = bench.on(Event::Machine(MachineEnd::PoweredOff));
    assert_eq!(verdict(&end).code(), 3);

    // It does not: the guest is ordered off, and ended where it does not heed that either.
    let mut bench = Bench::running(&["true"]);
    bench.session = bench.session.stopping_within(Duration::from_secs(5));
    bench.on(Event::Signalled(15));
    assert_eq!(bench.expire(), off);
    assert_eq!(bench.now - bench.start, Duration::from_secs(5));
    assert_eq!(verdict(&bench.expire()).code(), 143);
    assert_eq!(bench.now - bench.start, Duration::from_secs(5) + GRACE);

    // Pressed again.
    let mut bench = Bench::running(&["true"]);
    bench.on(Event::Signalled(15));
    assert_eq!(verdict(&bench.on(Event::Signalled(15))).code(), 143);
}

#[test]
fn sigterm_does_not_cut_a_guest_short_that_writes_its_disks() {
    let mut bench = Bench::running(&["true"]);
    bench.session = bench.session.keeping();
    bench.frame(Frame::Exited(0));
    assert_eq!(bench.on(Event::Signalled(15)), []);
    assert_eq!(bench.expire(), []);
    assert_eq!(bench.now - bench.start, STOP_GRACE);
    assert_eq!(verdict(&bench.expire()).code(), 0);
    assert_eq!(bench.now - bench.start, KEEPING_GRACE);

    let mut bench = Bench::running(&["true"]);
    bench.session = bench.session.keeping();
    bench.frame(Frame::Exited(0));
    bench.on(Event::Signalled(15));
    bench.expire();
    assert_eq!(verdict(&bench.on(Event::Signalled(15))).code(), 143);
}

#[test]
fn sigterm_ends_a_run_whose_output_nobody_takes_and_a_guest_that_starts_again() {
    let mut bench = Bench::running(&["true"]);
    bench.output(Stream::Stdout, 1);
    bench.frame(Frame::Exited(0));
    assert_eq!(bench.on(Event::Signalled(15)), []);
    assert_eq!(bench.expire(), [Action::Send(Frame::PowerOff)]);
    let end = bench.on(Event::Machine(MachineEnd::PoweredOff));
    assert_eq!(verdict(&end).code(), 143);

    let mut bench = Bench::running(&["reboot"]);
    bench.on(Event::Signalled(15));
    assert_eq!(verdict(&bench.die(MachineEnd::Reset)).code(), 143);
}

#[test]
fn a_running_guest_is_told_when_the_clock_moved() {
    let mut bench = Bench::new(Start::default(), None);
    assert_eq!(bench.on(Event::ClockMoved), []);
    bench.frame(Frame::Hello(VERSION));
    assert_eq!(bench.on(Event::ClockMoved), [Action::TellTime]);
    bench.frame(Frame::Exited(0));
    assert_eq!(bench.on(Event::ClockMoved), []);
}

#[test]
fn the_limit_counts_from_the_start() {
    let limit = Duration::from_secs(30);
    let mut bench = Bench::new(Start::default(), Some(limit));
    bench.frame(Frame::Hello(VERSION));
    bench.now += Duration::from_secs(29);
    assert_eq!(bench.on(Event::Deadline), []);
    assert_eq!(verdict(&bench.expire()).code(), 124);
    assert_eq!(bench.now - bench.start, limit);
}

#[test]
fn a_panic_is_death_after_reset_or_halt_and_before_anything_runs_too() {
    for end in [MachineEnd::Reset, MachineEnd::PoweredOff] {
        let mut bench = Bench::running(&["true"]);
        assert_eq!(bench.on(Event::Panicked("Oops".to_owned())), []);
        let died = bench.die(end);
        assert_eq!(verdict(&died).code(), 123);
        assert_eq!(sentence(&died), "the guest's kernel panicked: Oops");
    }
    let mut halted = Bench::new(Start::default(), None);
    halted.on(Event::Panicked("Oops".to_owned()));
    assert_eq!(verdict(&halted.expire()).code(), 123);
}

#[test]
fn a_line_that_looks_like_a_panic_kills_nobody_who_goes_on() {
    let mut bench = Bench::running(&["sh"]);
    bench.on(Event::Panicked("not really".to_owned()));
    bench.output(Stream::Stdout, 1);
    assert_eq!(bench.session.deadline(), None);
    bench.on(Event::Passed(Stream::Stdout, 1));
    bench.frame(Frame::Exited(0));
    let end = bench.on(Event::Machine(MachineEnd::PoweredOff));
    assert_eq!(verdict(&end), &Verdict::Exited(0));
}

#[test]
fn the_end_of_a_command_that_lies_in_the_line_still_counts() {
    let mut bench = Bench::running(&["true"]);
    assert_eq!(bench.on(Event::Machine(MachineEnd::PoweredOff)), []);
    assert_eq!(bench.output(Stream::Stdout, 1).len(), 1);
    assert_eq!(bench.frame(Frame::Exited(3)), []);
    assert_eq!(
        verdict(&bench.on(Event::Passed(Stream::Stdout, 1))),
        &Verdict::Exited(3)
    );
}

#[test]
fn a_triple_fault_is_always_death() {
    for argv in [&["true"][..], &[]] {
        let mut bench = Bench::running(argv);
        let died = bench.die(MachineEnd::TripleFault("CPU 0 at 0x10".to_owned()));
        assert_eq!(verdict(&died).code(), 123);
        assert!(sentence(&died).contains("CPU 0 at 0x10"));
    }
}

#[test]
fn powering_off_is_an_end_in_order() {
    for argv in [&["poweroff"][..], &[]] {
        let mut bench = Bench::running(argv);
        assert_eq!(
            verdict(&bench.die(MachineEnd::PoweredOff)),
            &Verdict::PoweredOff
        );
    }
    let mut booting = Bench::new(Start::default(), None);
    assert_eq!(verdict(&booting.die(MachineEnd::PoweredOff)).code(), 123);
}

#[test]
fn a_reset_starts_everything_again() {
    let mut bench = Bench::running(&["sh"]);
    assert_eq!(bench.die(MachineEnd::Reset), [Action::Restart]);
    assert_eq!(bench.session.deadline(), None);
    let again = bench.frame(Frame::Hello(VERSION));
    assert!(matches!(&again[1], Action::Send(Frame::Start(start)) if start.argv == [b"sh"]));
    // All that was allowed before may still be read.
    assert_eq!(again[2..], [Action::AllowInput(0)]);
    bench.frame(Frame::Exited(5));
    let end = bench.on(Event::Machine(MachineEnd::PoweredOff));
    assert_eq!(verdict(&end), &Verdict::Exited(5));
}

#[test]
fn what_lay_in_a_guest_that_reset_counts_no_more() {
    let mut bench = Bench::running(&["sh"]);
    bench.on(Event::Input(b"lost".to_vec()));
    bench.output(Stream::Stdout, 100);
    assert_eq!(bench.die(MachineEnd::Reset), [Action::Restart]);
    let again = bench.frame(Frame::Hello(VERSION));
    assert_eq!(again[2], Action::AllowInput(4));
    // The new guest has its whole window, whatever the old one's output is waiting for.
    let all = vec![b'x'; WINDOW as usize];
    let write = Action::Write(Stream::Stdout, all.clone());
    assert_eq!(bench.frame(Frame::Data(Stream::Stdout, all)), [write]);
    bench.frame(Frame::Exited(0));
    assert_eq!(bench.on(Event::Passed(Stream::Stdout, 100)), []);
    let rest = bench.on(Event::Passed(Stream::Stdout, WINDOW));
    assert_eq!(rest.last(), Some(&Action::Send(Frame::PowerOff)));
}

#[test]
fn a_guest_that_starts_again_learns_which_streams_have_ended() {
    let mut bench = Bench::running(&["sh"]);
    bench.on(Event::InputEnded);
    bench.on(Event::ReaderGone(Stream::Stderr));
    assert_eq!(bench.die(MachineEnd::Reset), [Action::Restart]);
    let again = bench.frame(Frame::Hello(VERSION));
    let told = [
        Action::Send(Frame::End(Stream::Stdin)),
        Action::Send(Frame::Closed(Stream::Stderr)),
    ];
    assert_eq!(again[2..], told);
}

#[test]
fn input_that_comes_between_two_guests_goes_to_the_second() {
    let mut bench = Bench::running(&["sh"]);
    bench.die(MachineEnd::Reset);
    assert_eq!(bench.on(Event::Input(b"early".to_vec())), []);
    assert_eq!(bench.on(Event::InputEnded), []);
    let again = bench.frame(Frame::Hello(VERSION));
    let told = [
        Action::Send(Frame::Data(Stream::Stdin, b"early".to_vec())),
        Action::Send(Frame::End(Stream::Stdin)),
    ];
    assert_eq!(again[2..], told);
    assert_eq!(
        bench.frame(Frame::Credit(Stream::Stdin, 5)),
        [Action::AllowInput(5)]
    );
}

#[test]
fn a_guest_that_resets_before_it_has_come_up_is_dead() {
    let mut booting = Bench::new(Start::default(), None);
    assert_eq!(verdict(&booting.die(MachineEnd::Reset)).code(), 123);
    let mut bench = Bench::running(&["sh"]);
    assert_eq!(bench.die(MachineEnd::Reset), [Action::Restart]);
    assert_eq!(verdict(&bench.die(MachineEnd::Reset)).code(), 123);
}

#[test]
fn lines_that_do_not_end_do_not_delay_the_judgement_for_long() {
    let mut bench = Bench::running(&["true"]);
    assert_eq!(bench.on(Event::Machine(MachineEnd::Reset)), []);
    assert_eq!(verdict(&bench.expire()).code(), 123);
    let mut bench = Bench::running(&["true"]);
    assert_eq!(bench.on(Event::LinkEnded), []);
    assert_eq!(verdict(&bench.expire()).code(), 123);
}

#[test]
fn frames_out_of_turn_and_other_versions_are_refused() {
    let mut booting = Bench::new(Start::default(), None);
    assert_eq!(verdict(&booting.frame(Frame::Exited(0))).code(), 125);
    let mut running = Bench::running(&["true"]);
    assert_eq!(verdict(&running.frame(Frame::Hello(VERSION))).code(), 125);
    let mut wrong = Bench::running(&["true"]);
    assert_eq!(verdict(&wrong.output(Stream::Stdin, 1)).code(), 125);
    let mut other = Bench::new(Start::default(), None);
    let refused = other.frame(Frame::Hello(VERSION + 1));
    let said = format!("version {} of", VERSION + 1);
    assert!(sentence(&refused).contains(&said));
}
