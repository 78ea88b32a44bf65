//! Two connections that talk over a channel that loses, duplicates and reorders: what is written at one end comes out
//! at the other, both ways, and both end.

use proptest::prelude::*;

use super::*;

/// What is on its way: when it arrives, for whom, and what it is.
struct Flight {
    at: Instant,
    to: usize,
    segment: Segment,
    data: Vec<u8>,
}

/// One side with its user, who writes `source` and then closes.
struct Side {
    tcp: Option<Connection>,
    source: Vec<u8>,
    written: usize,
    /// The most it writes or reads at a time.
    step: usize,
    sink: Vec<u8>,
    memory: usize,
}

impl Side {
    fn new(tcp: Option<Connection>, source: Vec<u8>, step: usize) -> Self {
        Self {
            tcp,
            source,
            written: 0,
            step,
            sink: Vec::new(),
            memory: 0,
        }
    }

    /// The user's turn. Says whether anything happened.
    fn use_it(&mut self) -> bool {
        let Some(tcp) = &mut self.tcp else {
            return false;
        };
        let rest = &self.source[self.written..];
        let wrote = tcp.write(&rest[..rest.len().min(self.step)]);
        self.written += wrote;
        let closed = self.written == self.source.len() && !tcp.out.closing;
        if closed {
            tcp.close();
        }
        let mut bytes = vec![0; self.step];
        let read = tcp.read(&mut bytes);
        self.sink.extend(&bytes[..read]);
        self.memory = self.memory.max(tcp.memory());
        wrote + read > 0 || closed
    }

    fn is_done(&self) -> bool {
        self.tcp
            .as_ref()
            .is_some_and(|tcp| tcp.is_finished() && tcp.readable_len() == 0)
    }
}

/// What the channel does to a segment: a number for each.
#[derive(Clone, Debug)]
pub(super) struct Weather {
    /// Of a hundred, how many are lost, and how many come twice.
    pub(super) lost: u8,
    pub(super) twice: u8,
    /// How many milliseconds a segment is under way at most.
    pub(super) late: u64,
    /// The longest segments.
    pub(super) limit: usize,
    pub(super) seed: u64,
}

pub(super) struct Channel {
    weather: Weather,
    random: u64,
    now: Instant,
    sides: [Side; 2],
    flights: Vec<Flight>,
    config: Config,
    segments: usize,
}

impl Channel {
    /// The first side connects to the second, or both connect at once.
    pub(super) fn new(
        weather: Weather,
        config: Config,
        data: [Vec<u8>; 2],
        steps: [usize; 2],
        both: bool,
    ) -> Self {
        let [a, b] = data;
        let first = Connection::connect(config, Seq(weather.seed as u32));
        let second = both.then(|| Connection::connect(config, Seq(0xffff_fff0)));
        Self {
            random: weather.seed | 1,
            weather,
            now: Instant::now(),
            sides: [
                Side::new(Some(first), a, steps[0]),
                Side::new(second, b, steps[1]),
            ],
            flights: Vec::new(),
            config,
            segments: 0,
        }
    }

    fn roll(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % below.max(1)
    }

    fn launch(&mut self, to: usize, segment: Segment, data: Vec<u8>) {
        self.segments += 1;
        if self.roll(100) < u64::from(self.weather.lost) {
            return;
        }
        let copies = 1 + usize::from(self.roll(100) < u64::from(self.weather.twice));
        for _ in 0..copies {
            let at = self.now + ms(self.roll(self.weather.late + 1));
            let data = data.clone();
            self.flights.push(Flight {
                at,
                to,
                segment,
                data,
            });
        }
    }

    fn send(&mut self, from: usize) {
        let mut sent = Vec::new();
        if let Some(tcp) = &mut self.sides[from].tcp {
            while let Some(outgoing) = tcp.next(self.now, self.weather.limit) {
                let data = tcp.data(&outgoing).concat();
                assert_eq!(data.len(), outgoing.len);
                assert!(data.len() <= self.weather.limit);
                sent.push((outgoing.segment, data));
                tcp.sent(self.now, &outgoing);
            }
        }
        for (segment, data) in sent {
            self.launch(1 - from, segment, data);
        }
    }

    fn arrive(&mut self, flight: Flight) {
        let Flight {
            to, segment, data, ..
        } = flight;
        if let Some(tcp) = &mut self.sides[to].tcp {
            let reset = segment.flags.contains(Flags::RST);
            if tcp.is_finished() && !reset {
                if let Some(answer) = segment.reset(data.len()) {
                    self.launch(1 - to, answer, Vec::new());
                }
                return;
            }
            tcp.segment(self.now, &segment, &data.as_slice());
        } else if segment.flags == Flags::SYN {
            let mut tcp = Connection::accept(self.config, Seq(0x7fff_fff0), &segment);
            tcp.stand();
            self.sides[to].tcp = Some(tcp);
        }
    }

    /// Lets everything happen, until both are done or `turns` are over.
    pub(super) fn run(&mut self, turns: usize) {
        for _ in 0..turns {
            let busy = self.sides[0].use_it() | self.sides[1].use_it();
            self.send(0);
            self.send(1);
            if self.sides.iter().all(Side::is_done) {
                return;
            }
            let next = (0..self.flights.len()).min_by_key(|&it| self.flights[it].at);
            let timers = self
                .sides
                .iter()
                .filter_map(|it| it.tcp.as_ref()?.deadline());
            let deadline = timers.min();
            match next {
                Some(next) if deadline.is_none_or(|at| self.flights[next].at <= at) => {
                    let flight = self.flights.remove(next);
                    self.now = self.now.max(flight.at);
                    self.arrive(flight);
                }
                _ if busy => {}
                _ => match deadline {
                    Some(deadline) => self.now = self.now.max(deadline),
                    None => panic!("nothing will ever happen: {:?}", self.states()),
                },
            }
        }
        panic!("no end: {:?}", self.states());
    }

    fn states(&self) -> Vec<String> {
        let tell = |side: &Side| format!("{} read, {:?}", side.sink.len(), side.tcp);
        self.sides.iter().map(tell).collect()
    }

    /// Everything has arrived, and memory was bounded.
    pub(super) fn judge(&self) {
        for side in [0, 1] {
            let (from, to) = (&self.sides[side], &self.sides[1 - side]);
            assert_eq!(from.source.len(), to.sink.len());
            assert!(from.source == to.sink);
            assert!(from.memory <= self.config.send + self.config.receive);
            let ending = from.tcp.as_ref().and_then(Connection::ending);
            // A last acknowledgment that is lost too often leaves a peer that nobody answers but with a reset.
            let fine = match ending {
                Some(Ending::Finished) => true,
                Some(Ending::Reset) => self.weather.lost > 0,
                _ => false,
            };
            assert!(fine, "{ending:?}");
        }
    }
}

pub(super) fn bytes(len: usize, seed: u8) -> Vec<u8> {
    (0..len)
        .map(|i| (i as u8).wrapping_mul(31).wrapping_add((i >> 8) as u8) ^ seed)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn everything_arrives_and_ends(
        lost in 0_u8..25, twice in 0_u8..25, late in 0_u64..30, limit in 50_usize..5000, seed: u64,
        lens in [0_usize..60_000, 0_usize..60_000], steps in [1_usize..9000, 1_usize..9000], both: bool,
        mss in 88_u16..3000, receive in 2048_usize..40_000,
    ) {
        let weather = Weather { lost, twice, late, limit, seed };
        let config = Config {
            receive: receive.next_power_of_two().max(4096), ..Config { mss, ..small() }
        };
        let data = [bytes(lens[0], 1), bytes(lens[1], 2)];
        let mut channel = Channel::new(weather, config, data, steps.map(|it| it.max(50)), both);
        channel.run(400_000);
        channel.judge();
    }
}

#[test]
fn a_good_channel_carries_much_in_few_segments() {
    let weather = Weather {
        lost: 0,
        twice: 0,
        late: 0,
        limit: 65_000,
        seed: 5,
    };
    let config = Config::new(1460);
    let data = [bytes(8 << 20, 1), Vec::new()];
    let mut channel = Channel::new(weather, config, data, [1 << 20; 2], false);
    channel.run(100_000);
    channel.judge();
    // Data in 64 KiB, and not more acknowledgments than data.
    assert!(channel.segments < 2 * 140, "{}", channel.segments);
}
