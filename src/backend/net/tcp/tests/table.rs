//! One connection against segments written by hand: each state with each event, the timers, the windows.

use proptest::prelude::*;

use super::*;

/// Our and the peer's initial sequence numbers, both about to wrap.
const OURS: Seq = Seq(0xffff_fffe);
const THEIRS: Seq = Seq(0xffff_fff0);
/// The peer's window.
const WINDOW: u16 = 5000;

/// A segment in numbers that count from the SYNs: number, acknowledgment, flags, window, bytes of data.
type Told = (u32, u32, Flags, u16, usize);

/// The connection in the test's hand.
struct Hand {
    tcp: Connection,
    now: Instant,
    /// What the peer has sent and what it has received, counted from the SYNs.
    seq: u32,
    ack: u32,
}

impl Hand {
    fn new(tcp: Connection) -> Self {
        Self {
            tcp,
            now: Instant::now(),
            seq: 1,
            ack: 1,
        }
    }

    /// A connection in this state, with nothing to send.
    fn in_state(state: State) -> Self {
        Self::with(small(), state)
    }

    fn with(config: Config, state: State) -> Self {
        if state == State::SynSent {
            let mut hand = Self::new(Connection::connect(config, OURS));
            hand.take();
            return hand;
        }
        let mut hand = Self::new(Connection::accept(config, OURS, &syn()));
        if state != State::Held {
            hand.tcp.stand();
            hand.take();
        }
        if !matches!(state, State::Held | State::SynReceived) {
            hand.give(Flags::ACK, &[]);
        }
        let script: &[Step] = match state {
            State::FinWait1 => &[Step::Close],
            State::FinWait2 => &[Step::Close, Step::Ack],
            State::CloseWait => &[Step::Fin],
            State::Closing => &[Step::Close, Step::Fin],
            State::LastAck => &[Step::Fin, Step::Close],
            State::TimeWait => &[Step::Close, Step::Ack, Step::Fin],
            State::Closed => &[Step::Fin, Step::Close, Step::Ack],
            _ => &[],
        };
        script.iter().for_each(|step| hand.step(*step));
        assert_eq!(hand.tcp.state(), state);
        hand
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Close => self.tcp.close(),
            Step::Ack => {
                self.ack += 1;
                self.give(Flags::ACK, &[]);
            }
            Step::Fin => {
                self.give(Flags::ACK | Flags::FIN, &[]);
                self.seq += 1;
            }
        }
        self.take();
    }

    fn give(&mut self, flags: Flags, data: &[u8]) {
        self.give_at(self.seq, self.ack, flags, WINDOW, data);
    }

    fn give_at(&mut self, seq: u32, ack: u32, flags: Flags, window: u16, data: &[u8]) {
        let segment = Segment {
            seq: THEIRS + seq,
            ack: OURS + ack,
            flags,
            window,
            ..Segment::default()
        };
        self.tcp.segment(self.now, &segment, &data);
    }

    /// What is sent now, and is taken to be sent.
    fn take(&mut self) -> Vec<Told> {
        let mut all = Vec::new();
        while let Some(outgoing) = self.tcp.next(self.now, 10_000) {
            let it = outgoing.segment;
            let (seq, ack) = (it.seq.since(OURS), it.ack.since(THEIRS));
            all.push((seq, ack, it.flags, it.window, outgoing.len));
            self.tcp.sent(self.now, &outgoing);
        }
        all
    }

    /// Lets time pass until something is late. Says how long.
    fn wait(&mut self) -> Duration {
        let deadline = self.tcp.deadline().expect("something is waited for");
        let time = deadline.saturating_duration_since(self.now);
        self.now += time;
        time
    }
}

#[derive(Clone, Copy)]
enum Step {
    /// We close.
    Close,
    /// The peer acknowledges our FIN.
    Ack,
    /// The peer closes.
    Fin,
}

fn syn() -> Segment {
    Segment {
        seq: THEIRS,
        flags: Flags::SYN,
        window: WINDOW,
        mss: Some(1000),
        ..Segment::default()
    }
}

const SYNCHRONIZED: [State; 7] = [
    State::Established,
    State::FinWait1,
    State::FinWait2,
    State::CloseWait,
    State::Closing,
    State::LastAck,
    State::TimeWait,
];

const NONE: Flags = Flags::empty();

#[test]
fn a_reset_counts_only_where_it_is_expected() {
    for state in SYNCHRONIZED.into_iter().chain([State::SynReceived]) {
        // RFC 5961, 3.2: at the number that is expected, elsewhere in the window, outside.
        for (off, ends, answers) in [
            (0, true, 0),
            (1, false, 1),
            (8000, false, 1),
            (u32::MAX, false, 0),
            (9000, false, 0),
        ] {
            let mut hand = Hand::in_state(state);
            hand.give_at(hand.seq.wrapping_add(off), 0, Flags::RST, 0, &[]);
            let deaf = state == State::TimeWait;
            let ending = match state {
                State::SynReceived => Ending::Refused,
                _ => Ending::Reset,
            };
            let expected = (ends && !deaf).then_some(ending);
            assert_eq!(hand.tcp.ending(), expected, "{state:?} {off}");
            let told = hand.take();
            let answers = if deaf || state == State::SynReceived {
                told.len().min(answers)
            } else {
                answers
            };
            assert_eq!(told.len(), answers, "{state:?} {off} {told:?}");
            assert!(told.iter().all(|it| it.2 == Flags::ACK));
        }
    }
}

#[test]
fn what_makes_no_sense_is_answered_with_where_we_are() {
    let ack = Flags::ACK;
    for state in SYNCHRONIZED {
        let here = Hand::in_state(state);
        let (seq, expected) = (here.seq, here.ack);
        // The number, its acknowledgment, flags, data, and whether there is an answer.
        for (seq, ack, flags, data, answer) in [
            // A SYN in the window (RFC 5961, 4.2), and one outside.
            (seq, 0, Flags::SYN, &b""[..], true),
            (seq + 5, expected, Flags::SYN | ack, b"", true),
            (seq.wrapping_sub(9), 0, Flags::SYN, b"", true),
            // An acknowledgment of what was never sent, and one that is too old (RFC 5961, 5.2).
            (seq, expected + 900, ack, b"", true),
            (seq, expected.wrapping_sub(60_000), ack, b"", true),
            // Data from before, and from behind the window.
            (seq.wrapping_sub(1), expected, ack, b"x", true),
            (seq + 8193, expected, ack, b"x", true),
            // Nothing without ACK.
            (seq, expected, NONE, b"x", false),
            (seq, expected, Flags::FIN, b"", false),
        ] {
            let mut hand = Hand::in_state(state);
            hand.give_at(seq, ack, flags, WINDOW, data);
            let told = hand.take();
            let what = format!("{state:?} {seq} {ack} {flags:?} {told:?}");
            assert_eq!(hand.tcp.state(), state, "{what}");
            assert_eq!(told.len(), usize::from(answer), "{what}");
            assert!(told.iter().all(|it| it.2 == Flags::ACK && it.1 == hand.seq));
            assert_eq!(hand.tcp.readable_len(), 0, "{what}");
        }
    }
}

#[test]
fn senseless_answers_are_rare() {
    let mut hand = Hand::in_state(State::Established);
    for _ in 0..50 {
        hand.give_at(1, 900, Flags::ACK, WINDOW, &[]);
    }
    assert_eq!(hand.take().len(), 1);
    hand.give_at(1, 900, Flags::ACK, WINDOW, &[]);
    assert_eq!(hand.take().len(), 0);
    hand.now += ms(100);
    hand.give_at(1, 900, Flags::ACK, WINDOW, &[]);
    assert_eq!(hand.take().len(), 1);
}

#[test]
fn the_states_follow_each_other_as_the_rfc_draws_it() {
    use State::*;
    use Step::*;
    for (from, step, to) in [
        (Established, Close, FinWait1),
        (Established, Fin, CloseWait),
        (FinWait1, Ack, FinWait2),
        (FinWait1, Fin, Closing),
        (FinWait2, Fin, TimeWait),
        (Closing, Ack, TimeWait),
        (CloseWait, Close, LastAck),
        (LastAck, Ack, Closed),
    ] {
        let mut hand = Hand::in_state(from);
        hand.step(step);
        assert_eq!(hand.tcp.state(), to, "{from:?}");
    }
    let hand = Hand::in_state(Closed);
    assert!(hand.tcp.is_finished() && hand.tcp.ending() == Some(Ending::Finished));
    // A FIN with the acknowledgment of ours.
    let mut hand = Hand::in_state(FinWait1);
    hand.ack += 1;
    hand.step(Fin);
    assert_eq!(hand.tcp.state(), TimeWait);
    // TIME-WAIT answers a FIN that comes again, and begins anew.
    hand.now += ms(900);
    hand.give_at(1, 2, Flags::ACK | Flags::FIN, WINDOW, &[]);
    assert_eq!(hand.take().len(), 1);
    assert_eq!(hand.wait(), ms(1000));
    hand.take();
    assert_eq!(hand.tcp.ending(), Some(Ending::Finished));
}

#[test]
fn time_wait_yields_to_a_new_connection() {
    for (state, off, yields) in [
        (State::TimeWait, 1, true),
        (State::TimeWait, 0, false),
        (State::Closed, 0, true),
        (State::Established, 1, false),
    ] {
        let hand = Hand::in_state(state);
        let mut new = syn();
        new.seq = THEIRS + hand.seq + off;
        assert_eq!(hand.tcp.yields_to(&new), yields, "{state:?} {off}");
        new.flags |= Flags::ACK;
        assert!(!hand.tcp.yields_to(&new));
    }
}

#[test]
fn a_held_syn_is_answered_when_it_stands() {
    let mut hand = Hand::in_state(State::Held);
    hand.tcp.segment(hand.now, &syn(), &&b""[..]);
    assert_eq!((hand.take(), hand.tcp.deadline()), (vec![], None));
    hand.tcp.stand();
    let syn_ack = (0, 1, Flags::SYN | Flags::ACK, 8192, 0);
    assert_eq!(hand.take(), [syn_ack]);
    // Again, if the SYN comes again or nothing does.
    hand.tcp.segment(hand.now, &syn(), &&b""[..]);
    assert_eq!(hand.take(), [syn_ack]);
    assert_eq!(hand.wait(), ms(1000));
    assert_eq!(hand.take(), [syn_ack]);
    assert_eq!(hand.wait(), ms(2000));
    hand.give(Flags::ACK, b"data");
    assert_eq!(hand.tcp.state(), State::Established);
    assert_eq!(hand.tcp.readable_len(), 4);
    // Or refused.
    let mut hand = Hand::in_state(State::Held);
    hand.tcp.abort();
    assert_eq!(hand.tcp.next(hand.now, 1).unwrap().segment.seq, Seq(0));
    let told = hand.take();
    assert_eq!(
        (told.len(), told[0].1, told[0].2),
        (1, 1, Flags::RST | Flags::ACK)
    );
    assert!(hand.tcp.is_finished());
    // Or given up by whom it is from.
    let mut hand = Hand::in_state(State::Held);
    hand.give(Flags::RST, &[]);
    assert_eq!(hand.tcp.ending(), Some(Ending::Reset));
}

#[test]
fn a_connection_is_answered_refused_or_nothing() {
    let answer = |flags, ack| Segment {
        seq: THEIRS,
        ack: OURS + ack,
        flags,
        window: WINDOW,
        ..Segment::default()
    };
    let (syn, ack, rst) = (Flags::SYN, Flags::ACK, Flags::RST);
    for (flags, number, state, ending, told) in [
        (syn | ack, 1, State::Established, None, Some(ack)),
        (rst | ack, 1, State::Closed, Some(Ending::Refused), None),
        // Of another connection.
        (syn | ack, 0, State::SynSent, None, Some(rst)),
        (ack, 2, State::SynSent, None, Some(rst)),
        (rst | ack, 2, State::SynSent, None, None),
        (rst, 0, State::SynSent, None, None),
        (ack, 1, State::SynSent, None, None),
        // Both connect at once.
        (syn, 0, State::SynReceived, None, Some(syn | ack)),
    ] {
        let mut hand = Hand::in_state(State::SynSent);
        hand.tcp
            .segment(hand.now, &answer(flags, number), &&b""[..]);
        let what = format!("{flags:?} {number}");
        assert_eq!(
            (hand.tcp.state(), hand.tcp.ending()),
            (state, ending),
            "{what}"
        );
        let flags: Vec<_> = hand.take().iter().map(|it| it.2).collect();
        assert_eq!(flags, told.into_iter().collect::<Vec<_>>(), "{what}");
    }
    // What was written and closed before goes out at once.
    let mut hand = Hand::in_state(State::SynSent);
    hand.tcp.write(b"early");
    hand.tcp.close();
    assert_eq!(hand.take(), []);
    hand.tcp.segment(hand.now, &answer(syn | ack, 1), &&b""[..]);
    let last = Flags::ACK | Flags::PSH | Flags::FIN;
    assert_eq!(hand.take(), [(1, 1, last, 8192, 5)]);
}

#[test]
fn nobody_is_given_up_who_was_told_nothing() {
    let mut hand = Hand::in_state(State::Established);
    hand.tcp.write(b"x");
    for _ in 0..100 {
        assert!(hand.tcp.next(hand.now, 100).is_some());
        hand.now += ms(100_000);
        hand.tcp.tick(hand.now);
    }
    assert_eq!(hand.tcp.deadline(), None);
    assert_eq!(hand.take().len(), 1);
}

#[test]
fn what_is_not_acknowledged_is_sent_again_until_the_peer_is_given_up() {
    for (state, tries) in [
        (State::Established, 11),
        (State::SynSent, 11),
        (State::SynReceived, 4),
    ] {
        let mut hand = Hand::in_state(state);
        if state == State::Established {
            hand.tcp.write(&[7; 1500]);
            assert_eq!(hand.take().len(), 1);
        }
        // The handshake has been measured.
        let mut time = ms(if state == State::Established {
            200
        } else {
            1000
        });
        for _ in 0..tries {
            assert_eq!(hand.wait(), time.min(ms(60_000)), "{state:?}");
            time *= 2;
            // Not more than one segment after a time-out.
            let told = hand.take();
            assert_eq!(told.len(), 1, "{state:?} {told:?}");
            assert!(told[0].4 <= 1000);
        }
        hand.wait();
        let told = hand.take();
        assert_eq!(hand.tcp.ending(), Some(Ending::TimedOut), "{state:?}");
        let reset = told.iter().any(|it| it.2.contains(Flags::RST));
        assert_eq!(reset, state != State::SynSent, "{told:?}");
        assert!(hand.tcp.is_finished() && hand.tcp.deadline().is_none());
    }
}

#[test]
fn a_time_out_begins_anew_with_little() {
    let mut hand = Hand::in_state(State::Established);
    hand.tcp.write(&[7; 4000]);
    assert_eq!(hand.take().len(), 1);
    hand.wait();
    assert_eq!(hand.take(), [(1, 1, Flags::ACK, 8192, 1000)]);
    hand.ack = 1001;
    hand.give(Flags::ACK, &[]);
    let told = hand.take();
    assert_eq!(
        told.iter().map(|it| (it.0, it.4)).collect::<Vec<_>>(),
        [(1001, 2000)]
    );
    // Everything had come, as it turns out.
    hand.ack = 4001;
    hand.give(Flags::ACK, &[]);
    assert_eq!((hand.take(), hand.tcp.deadline()), (vec![], None));
}

#[test]
fn three_duplicates_mean_a_loss() {
    let mut hand = Hand::in_state(State::Established);
    hand.tcp.write(&[7; 4000]);
    hand.take();
    for count in 1..6 {
        hand.give(Flags::ACK, &[]);
        let again = hand.take();
        let expected = if count == 3 {
            vec![(1, 1, Flags::ACK, 8192, 1000)]
        } else {
            vec![]
        };
        assert_eq!(again, expected, "{count}");
    }
    // The second was lost as well: a partial acknowledgment.
    hand.ack = 1001;
    hand.give(Flags::ACK, &[]);
    assert_eq!(hand.take(), [(1001, 1, Flags::ACK, 8192, 1000)]);
    hand.ack = 4001;
    hand.give(Flags::ACK, &[]);
    assert_eq!(hand.take(), []);
    // What brings data, another window or nothing new without anything in flight is no duplicate.
    hand.tcp.write(&[7; 1000]);
    hand.take();
    for count in 0..9 {
        hand.give_at(1, 4001, Flags::ACK, WINDOW + count % 2, &[]);
        hand.give_at(1 + u32::from(count), 4001, Flags::ACK, WINDOW, b"x");
    }
    assert!(hand.take().iter().all(|it| it.4 == 0));
}

#[test]
fn a_shut_window_is_probed_for_as_long_as_the_peer_answers() {
    let mut hand = Hand::in_state(State::Established);
    hand.give_at(1, 1, Flags::ACK, 0, &[]);
    hand.tcp.write(&[7; 3000]);
    assert_eq!(hand.take(), []);
    let mut time = ms(200);
    for _ in 0..40 {
        assert_eq!(hand.wait(), time.min(ms(60_000)));
        time = (time * 2).min(ms(60_000));
        let told = hand.take();
        assert_eq!(
            told.iter().map(|it| (it.0, it.4)).collect::<Vec<_>>(),
            [(1, 1)]
        );
        hand.give_at(1, 1, Flags::ACK, 0, &[]);
        assert_eq!(hand.take(), []);
    }
    // It opens: everything is sent at once, the probe's byte as well.
    hand.give_at(1, 1, Flags::ACK, WINDOW, &[]);
    let told = hand.take();
    assert_eq!(
        told.iter().map(|it| (it.0, it.4)).collect::<Vec<_>>(),
        [(1, 3000)]
    );
    hand.give_at(1, 3001, Flags::ACK, 0, &[]);
    // One that answers no more is given up.
    hand.tcp.write(&[7; 10]);
    hand.take();
    for _ in 0..12 {
        hand.wait();
        hand.take();
    }
    assert_eq!(hand.tcp.ending(), Some(Ending::TimedOut));
}

#[test]
fn a_shut_window_is_probed_whenever_the_data_comes() {
    let mut hand = Hand::in_state(State::Established);
    // The window shuts with nothing left in flight, and only then there is more to send.
    hand.give_at(1, 1, Flags::ACK, 0, &[]);
    assert_eq!(hand.tcp.write(&[1; 10]), 10);
    assert!(!hand.tcp.wants_to_send(hand.now));
    hand.wait();
    assert_eq!(hand.take().len(), 1);
}

#[test]
fn a_window_that_opens_does_not_forget_what_is_in_flight() {
    let mut hand = Hand::in_state(State::Established);
    hand.tcp.write(&[7; 2000]);
    hand.take();
    hand.give_at(1, 1, Flags::ACK, 0, &[]);
    hand.give_at(1, 1, Flags::ACK, WINDOW, &[]);
    assert_eq!((hand.take(), hand.wait()), (vec![], ms(200)));
    assert_eq!(hand.take().len(), 1);
}

#[test]
fn a_window_of_little_is_not_worth_a_segment() {
    for (window, expected) in [
        (400, vec![]),
        (1000, vec![1000]),
        (2500, vec![2000]),
        (4999, vec![4000]),
        (9999, vec![7000]),
    ] {
        let mut hand = Hand::in_state(State::Established);
        hand.give_at(1, 1, Flags::ACK, window, &[]);
        hand.tcp.write(&[7; 7000]);
        let sent: Vec<_> = hand.take().iter().map(|it| it.4).collect();
        assert_eq!(sent, expected, "{window}");
    }
    // But what is all there is goes at once.
    let mut hand = Hand::in_state(State::Established);
    hand.give_at(1, 1, Flags::ACK, 400, &[]);
    hand.tcp.write(&[7; 300]);
    assert_eq!(hand.take().len(), 1);
}

#[test]
fn a_fin_waits_for_the_data_and_its_own_room() {
    let mut hand = Hand::in_state(State::Established);
    hand.give_at(1, 1, Flags::ACK, 1000, &[]);
    hand.tcp.write(&[7; 1000]);
    hand.tcp.close();
    assert_eq!(hand.tcp.write(b"more"), 0);
    assert_eq!(hand.take(), [(1, 1, Flags::ACK | Flags::PSH, 8192, 1000)]);
    hand.give_at(1, 1001, Flags::ACK, 1000, &[]);
    assert_eq!(hand.take(), [(1001, 1, Flags::ACK | Flags::FIN, 8192, 0)]);
    assert_eq!(hand.tcp.state(), State::FinWait1);
    hand.give_at(1, 1002, Flags::ACK, 1000, &[]);
    assert_eq!(hand.tcp.state(), State::FinWait2);
}

#[test]
fn acknowledgments_wait_for_company_but_not_long() {
    let mut hand = Hand::in_state(State::Established);
    let give = |hand: &mut Hand, len: usize| {
        hand.give(Flags::ACK, &vec![1; len]);
        hand.seq += len as u32;
    };
    give(&mut hand, 100);
    assert_eq!((hand.take(), hand.wait()), (vec![], ms(5)));
    assert_eq!(hand.take(), [(1, 101, Flags::ACK, 8092, 0)]);
    // Data takes it along.
    give(&mut hand, 100);
    hand.tcp.write(b"answer");
    assert_eq!(hand.take(), [(1, 201, Flags::ACK | Flags::PSH, 7992, 6)]);
    // Two full segments do not wait; a quarter of the window does not either.
    give(&mut hand, 1000);
    assert_eq!(hand.take(), []);
    give(&mut hand, 1000);
    assert_eq!(hand.take(), [(7, 2201, Flags::ACK, 5992, 0)]);
    // A gap is told of with each segment behind it.
    for off in [1000, 2000] {
        hand.give_at(hand.seq + off, 7, Flags::ACK, WINDOW, &[1; 500]);
    }
    assert_eq!(hand.take().len(), 2);
}

#[test]
fn windows_grow_in_steps_that_matter() {
    let mut hand = Hand::in_state(State::Established);
    for _ in 0..9 {
        hand.give(Flags::ACK, &[1; 1000]);
        hand.seq += 1000;
        hand.take();
    }
    // Of the last only as much as fits.
    assert_eq!((hand.tcp.readable_len(), hand.take()), (8192, vec![]));
    hand.seq = 8193;
    hand.tcp.consume(999);
    assert_eq!(hand.take(), []);
    hand.tcp.consume(1);
    assert_eq!(hand.take(), [(1, 8193, Flags::ACK, 1000, 0)]);
    hand.tcp.consume(3000);
    assert_eq!(hand.take(), []);
    hand.tcp.consume(4000);
    assert_eq!(hand.take(), [(1, 8193, Flags::ACK, 8000, 0)]);
    // A probe of a shut window is answered, and takes what has room.
    let mut hand = Hand::in_state(State::Established);
    hand.give(Flags::ACK, &[1; 8192]);
    hand.seq += 8192;
    assert_eq!(hand.take(), [(1, 8193, Flags::ACK, 0, 0)]);
    hand.give(Flags::ACK, b"x");
    assert_eq!(hand.take(), [(1, 8193, Flags::ACK, 0, 0)]);
}

#[test]
fn windows_are_scaled_if_both_say_so() {
    let config = Config {
        receive: 1 << 20,
        send: 1 << 20,
        ..Config::new(1000)
    };
    for (theirs, our, sent) in [
        (Some(3), Some(5), 40_000),
        (Some(0), Some(5), 5000),
        (None, None, 5000),
    ] {
        let syn = Segment {
            scale: theirs,
            ..syn()
        };
        let mut tcp = Connection::accept(config, OURS, &syn);
        tcp.stand();
        let mut hand = Hand::new(tcp);
        let outgoing = hand.tcp.next(hand.now, 1).unwrap();
        assert_eq!(
            (outgoing.segment.scale, outgoing.segment.window),
            (our, 0xffff)
        );
        hand.take();
        hand.give(Flags::ACK, &[]);
        hand.tcp.write(&[1; 1 << 20]);
        let total: usize = hand.take().iter().map(|it| it.4).sum();
        assert_eq!(total, sent, "{theirs:?}");
        let window = hand.tcp.inn.window();
        assert_eq!(
            window,
            our.map_or(0xffff, |shift| (1_u32 << 20 >> shift) as u16)
        );
    }
}

#[test]
fn segments_are_as_long_as_both_want() {
    for (said, ours, expected) in [
        (None, 1460, 536),
        (Some(0), 1460, 88),
        (Some(9000), 1460, 1460),
        (Some(500), 1460, 500),
    ] {
        let syn = Segment { mss: said, ..syn() };
        let config = Config {
            mss: ours,
            ..small()
        };
        let mut tcp = Connection::accept(config, OURS, &syn);
        tcp.stand();
        let mut hand = Hand::new(tcp);
        hand.take();
        hand.give(Flags::ACK, &[]);
        assert_eq!(hand.tcp.mss(), expected);
        hand.tcp.write(&[1; 8000]);
        let first = hand.tcp.next(hand.now, usize::MAX).unwrap();
        // Whole segments, as many as the window has room for.
        assert_eq!(first.len, 5000 - 5000 % usize::from(expected));
        let short = hand.tcp.next(hand.now, 100).unwrap();
        assert_eq!(short.len, if expected == 88 { 88 } else { 100 });
    }
}

#[test]
fn input_that_nobody_reads_keeps_the_window_open() {
    let mut hand = Hand::in_state(State::Established);
    hand.give(Flags::ACK, &[1; 3000]);
    hand.seq += 3000;
    hand.tcp.ignore_input();
    assert_eq!(hand.tcp.memory(), 0);
    for _ in 0..20 {
        hand.give(Flags::ACK, &[1; 3000]);
        hand.seq += 3000;
        let told = hand.take();
        assert_eq!((told.len(), told[0].1, told[0].3), (1, hand.seq, 8192));
    }
    assert_eq!(hand.tcp.readable_len(), 0);
    // Nobody writes either: the peer has so long to close, and data is a reset.
    hand.step(Step::Close);
    hand.step(Step::Ack);
    assert_eq!(hand.wait(), ms(60_000));
    hand.take();
    assert_eq!(hand.tcp.ending(), Some(Ending::Finished));
    let mut hand = Hand::in_state(State::FinWait2);
    hand.tcp.ignore_input();
    hand.give(Flags::ACK, b"x");
    assert_eq!(hand.take()[0].2, Flags::RST | Flags::ACK);
}

#[test]
fn an_abort_is_a_reset_that_the_peer_believes() {
    for state in SYNCHRONIZED.into_iter().chain([State::SynReceived]) {
        let mut hand = Hand::in_state(state);
        let seq = if state == State::FinWait1 || state == State::Closing || state == State::LastAck
        {
            2
        } else {
            hand.ack
        };
        hand.tcp.abort();
        let told = hand.take();
        if state == State::TimeWait {
            assert_eq!((told, hand.tcp.ending()), (vec![], Some(Ending::Finished)));
            continue;
        }
        assert_eq!(
            told.iter().map(|it| (it.0, it.2)).collect::<Vec<_>>(),
            [(seq, Flags::RST | Flags::ACK)],
            "{state:?}"
        );
        assert!(hand.tcp.is_finished() && hand.tcp.ending() == Some(Ending::Aborted));
    }
}

/// Something that happens to a connection, with numbers near those that it has.
#[derive(Clone, Debug)]
enum Event {
    Segment {
        seq: i32,
        ack: i32,
        flags: u8,
        window: u16,
        len: usize,
        syn: (Option<u16>, Option<u8>),
    },
    Write(usize),
    Read(usize),
    Close,
    Abort,
    Ignore,
    Time(u64),
    Next(usize, bool),
}

fn event() -> impl Strategy<Value = Event> {
    let near = || prop_oneof![4 => -3_i32..3, 2 => -20_000_i32..20_000, 1 => any::<i32>()];
    let segment = (
        near(),
        near(),
        0_u8..32,
        any::<u16>(),
        0_usize..9000,
        any::<(Option<u16>, Option<u8>)>(),
    );
    prop_oneof![
        8 => segment.prop_map(|(seq, ack, flags, window, len, syn)| Event::Segment { seq, ack, flags, window, len, syn }),
        2 => (0_usize..20_000).prop_map(Event::Write),
        2 => (0_usize..9000).prop_map(Event::Read),
        1 => Just(Event::Close),
        1 => prop_oneof![9 => Just(Event::Ignore), 1 => Just(Event::Abort)],
        3 => (0_u64..100_000).prop_map(Event::Time),
        6 => (1_usize..10_000, any::<bool>()).prop_map(|(limit, sent)| Event::Next(limit, sent)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    /// Whatever a peer sends, nothing panics, memory is bounded, and no more is sent than was written.
    #[test]
    fn any_peer_at_all(active: bool, syn in any::<(u16, Option<u16>, Option<u8>)>(), events in prop::collection::vec(event(), 0..120)) {
        let (window, mss, scale) = syn;
        let first = Segment { window, mss, scale: scale.map(|it| it % 15), ..self::syn() };
        let mut tcp = if active { Connection::connect(small(), OURS) } else { Connection::accept(small(), OURS, &first) };
        tcp.stand();
        let (mut now, mut written, mut read) = (Instant::now(), 0, 0);
        let (mut sent, mut got) = (OURS, THEIRS + 1);
        for event in events {
            match event {
                Event::Segment { seq, ack, flags, window, len, syn: (mss, scale) } => {
                    let segment = Segment {
                        seq: got + seq as u32, ack: sent + ack as u32, flags: Flags::from_bits_truncate(flags), window,
                        mss, scale: scale.map(|it| it % 15),
                    };
                    tcp.segment(now, &segment, &&vec![7; len][..]);
                }
                Event::Write(len) => written += tcp.write(&vec![7; len]),
                Event::Read(len) => read += tcp.read(&mut vec![0; len]),
                Event::Close => tcp.close(),
                Event::Abort => tcp.abort(),
                Event::Ignore => tcp.ignore_input(),
                Event::Time(time) => now += ms(time),
                Event::Next(limit, done) => {
                    if let Some(outgoing) = tcp.next(now, limit) {
                        prop_assert_eq!(tcp.data(&outgoing).concat().len(), outgoing.len);
                        prop_assert!(outgoing.len <= limit.max(1));
                        if done {
                            tcp.sent(now, &outgoing);
                        }
                    }
                }
            }
            (sent, got) = (tcp.out.max, tcp.inn.next);
            prop_assert!(tcp.out.max.since(OURS) as usize <= written + 2);
            prop_assert!(!tcp.out.next.before(tcp.out.una) && !tcp.out.next.after(tcp.out.max));
            prop_assert!(!tcp.out.max.after(tcp.out.end()) || tcp.ending().is_some() || tcp.out.fin_acked);
            // What is in flight is waited for, unless it is to be sent again just now.
            let open = !matches!(tcp.phase, Phase::Closed | Phase::TimeWait);
            prop_assert!(!open || !tcp.out.is_in_flight() || tcp.timers.resend.is_some() || tcp.wants_to_send(now));
            prop_assert!(tcp.memory() <= 16_384 && tcp.readable_len() <= 8192);
            prop_assert!(read <= tcp.inn.next.since(tcp.inn.irs) as usize);
        }
    }
}
