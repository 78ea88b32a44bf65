//! `--timeline`: a run as a drawing (SVG 1.1): who spent which part of it.
//!
//! Its origin is the start of our process as the system has it. Where that is known only to so many milliseconds, as on
//! Linux (proc(5), starttime), the first bar says so.

use crate::machine::Birth;
use crate::sandbox::Moments;
use std::fmt::Write;
use std::time::{Duration, Instant};

/// Who spends a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Host,
    Launcher,
    Kernel,
    Init,
    Command,
}

impl Who {
    const ALL: [Self; 5] = [
        Self::Host,
        Self::Launcher,
        Self::Kernel,
        Self::Init,
        Self::Command,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Host => "the host's system",
            Self::Launcher => "xlaunch",
            Self::Kernel => "the guest's kernel",
            Self::Init => "the guest's init",
            Self::Command => "the command",
        }
    }

    /// Told apart with every kind of colour vision (Okabe and Ito's palette).
    fn colour(self) -> &'static str {
        match self {
            Self::Host => "#999999",
            Self::Launcher => "#0072b2",
            Self::Kernel => "#e69f00",
            Self::Init => "#009e73",
            Self::Command => "#cc79a7",
        }
    }
}

/// A bar of the drawing.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    who: Who,
    what: String,
    from: Duration,
    to: Duration,
}

/// What a drawing is made of.
pub(super) struct Story<'a> {
    /// When our first instruction ran, or nearly so.
    pub(super) begun: Instant,
    /// How long the process had existed then, where the system tells.
    pub(super) age: Option<Duration>,
    /// When the command line was understood.
    pub(super) understood: Instant,
    pub(super) birth: &'a Birth,
    /// When the guest's first instruction ran.
    pub(super) first: Option<Instant>,
    pub(super) moments: &'a Moments,
    /// When everything was over.
    pub(super) over: Instant,
}

/// The drawing.
pub(super) fn draw(story: &Story<'_>) -> String {
    svg(&spans(story))
}

fn spans(story: &Story<'_>) -> Vec<Span> {
    let age = story.age.unwrap_or_default();
    let at = |instant: Instant| instant.saturating_duration_since(story.begun) + age;
    let mut chain = Chain {
        spans: Vec::new(),
        end: Duration::ZERO,
    };
    if story.age.is_some() {
        chain.until(Who::Host, "starts the program (to within 10 ms)", age);
    }
    chain.until(
        Who::Launcher,
        "reads the command line",
        at(story.understood),
    );
    chain.until(
        Who::Launcher,
        "takes over the streams",
        at(story.birth.begun),
    );
    for (step, end) in &story.birth.steps {
        chain.until(Who::Launcher, step, at(*end));
    }
    let moments = story.moments;
    if let Some(first) = story.first {
        chain.until(
            Who::Launcher,
            "resets the CPUs, up to the guest's first instruction",
            at(first),
        );
    }
    guest(&mut chain, moments, at);
    chain.until(Who::Launcher, "ends the machine", at(story.over));
    chain.spans
}

/// From the guest's first instruction to its power-off.
fn guest(chain: &mut Chain, moments: &Moments, at: impl Fn(Instant) -> Duration) {
    if let Some(greeted) = moments.greeted.map(&at) {
        // The guest's clock began in its kernel's first steps, and was read at the greeting.
        if let Some((init, ready)) = moments.guest_clock {
            let zero = greeted.saturating_sub(ready);
            chain.until(Who::Kernel, "unpacks itself", zero);
            chain.until(
                Who::Kernel,
                "boots, up to init",
                zero.saturating_add(init).min(greeted),
            );
        }
        chain.until(Who::Init, "prepares the guest, up to its greeting", greeted);
    }
    if let Some(started) = moments.started.map(&at) {
        chain.until(Who::Init, "starts the command", started);
    }
    if let Some(ended) = moments.ended.map(&at) {
        let who = match moments.started {
            Some(_) => (Who::Command, "runs"),
            None => (Who::Init, "does not start the command"),
        };
        chain.until(who.0, who.1, ended);
    }
    if let Some(off) = moments.machine_ended.map(&at) {
        chain.until(Who::Kernel, "writes out and powers off", off);
    }
}

/// Spans one behind the other.
struct Chain {
    spans: Vec<Span>,
    end: Duration,
}

impl Chain {
    /// The next span lasts until `to`. One that would end before it begins is left out.
    fn until(&mut self, who: Who, what: &str, to: Duration) {
        if to < self.end {
            return;
        }
        self.spans.push(Span {
            who,
            what: what.to_owned(),
            from: self.end,
            to,
        });
        self.end = to;
    }
}

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 20.0;
const ROW: f64 = 22.0;
const TOP: f64 = 70.0;

fn svg(spans: &[Span]) -> String {
    let total = spans.last().map_or(Duration::ZERO, |span| span.to);
    let scale = (WIDTH - 2.0 * LEFT) / total.as_secs_f64().max(1e-6);
    let height = TOP + ROW * (spans.len() as f64 + 1.0);
    let mut page = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <title>xlaunch: {} from start to end</title>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n",
        milliseconds(total)
    );
    let title = format!("A run of xlaunch: {}", milliseconds(total));
    label(&mut page, LEFT, 24.0, "start", &title);
    legend(&mut page, spans);
    for (row, span) in spans.iter().enumerate() {
        let (x, y) = (
            LEFT + span.from.as_secs_f64() * scale,
            TOP + ROW * row as f64,
        );
        let width = ((span.to - span.from).as_secs_f64() * scale).max(1.0);
        _ = writeln!(
            page,
            "<rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{:.2}\" fill=\"{}\"/>",
            ROW - 4.0,
            span.who.colour()
        );
        let text = format!(
            "{} {}: {}",
            span.who.name(),
            span.what,
            milliseconds(span.to - span.from)
        );
        // On the side where there is room.
        let baseline = y + ROW - 8.0;
        if x < WIDTH / 2.0 && x + width < WIDTH / 2.0 {
            label(&mut page, x + width + 6.0, baseline, "start", &text);
        } else if x < WIDTH / 2.0 {
            label(&mut page, x + 6.0, baseline, "start", &text);
        } else {
            label(&mut page, x - 6.0, baseline, "end", &text);
        }
    }
    page + "</svg>\n"
}

/// Who is who, and what each spent.
fn legend(page: &mut String, spans: &[Span]) {
    let mut x = LEFT;
    for who in Who::ALL {
        let theirs = spans.iter().filter(|span| span.who == who);
        let spent: Duration = theirs.map(|span| span.to - span.from).sum();
        if spent.is_zero() {
            continue;
        }
        let colour = who.colour();
        _ = writeln!(
            page,
            "<rect x=\"{x:.2}\" y=\"36.00\" width=\"12.00\" height=\"12.00\" fill=\"{colour}\"/>"
        );
        let text = format!("{}: {}", who.name(), milliseconds(spent));
        label(page, x + 18.0, 47.0, "start", &text);
        x += 190.0;
    }
}

fn label(page: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    _ = writeln!(
        page,
        "<text x=\"{x:.2}\" y=\"{y:.2}\" text-anchor=\"{anchor}\">{}</text>",
        escaped(text)
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    /// A run with a mark at every ten milliseconds, from 10 on.
    fn story(birth: &Birth, moments: &Moments, begun: Instant) -> Vec<Span> {
        spans(&Story {
            begun,
            age: Some(ms(10)),
            understood: begun + ms(10),
            birth,
            first: Some(begun + ms(50)),
            moments,
            over: begun + ms(200),
        })
    }

    fn birth(begun: Instant) -> Birth {
        Birth {
            engine: "soft",
            begun: begun + ms(20),
            steps: vec![("opens disks", begun + ms(30)), ("wires", begun + ms(40))],
        }
    }

    fn moments(begun: Instant) -> Moments {
        Moments {
            greeted: Some(begun + ms(100)),
            guest_clock: Some((ms(25), ms(40))),
            started: Some(begun + ms(110)),
            ended: Some(begun + ms(150)),
            machine_ended: Some(begun + ms(170)),
        }
    }

    #[test]
    fn every_millisecond_is_somebodys() {
        let begun = Instant::now();
        let spans = story(&birth(begun), &moments(begun), begun);
        assert_eq!(spans[0].from, Duration::ZERO);
        assert_eq!(spans.last().unwrap().to, ms(210));
        assert!(spans.windows(2).all(|pair| pair[0].to == pair[1].from));
        let spent = |who| {
            let theirs = spans.iter().filter(|span| span.who == who);
            theirs.map(|span| span.to - span.from).sum::<Duration>()
        };
        // The guest's clock began 40 ms before the greeting, 10 ms after the first instruction; init 15 ms before it.
        assert_eq!(spent(Who::Host), ms(10));
        assert_eq!(spent(Who::Launcher), ms(50 + 30));
        assert_eq!(spent(Who::Kernel), ms(10 + 25 + 20));
        assert_eq!(spent(Who::Init), ms(15 + 10));
        assert_eq!(spent(Who::Command), ms(40));
    }

    #[test]
    fn a_run_that_ends_early_is_drawn_as_far_as_it_came() {
        let begun = Instant::now();
        let spans = story(&birth(begun), &Moments::default(), begun);
        assert!(spans.iter().all(|span| span.who != Who::Command));
        assert_eq!(spans.last().unwrap().to, ms(210));
    }

    #[test]
    fn a_guest_whose_clock_lies_spoils_only_its_own_bars() {
        let begun = Instant::now();
        for clock in [
            (Duration::MAX, Duration::MAX),
            (ms(1), ms(100_000)),
            (ms(9), ms(3)),
        ] {
            let moments = Moments {
                guest_clock: Some(clock),
                ..moments(begun)
            };
            let spans = story(&birth(begun), &moments, begun);
            assert!(spans.windows(2).all(|pair| pair[0].to == pair[1].from));
            assert_eq!(spans.last().unwrap().to, ms(210));
        }
    }

    /// The names and attributes of a document's elements; what is no XML fails.
    fn elements(mut text: &str) -> Vec<(String, Vec<(String, String)>)> {
        let (mut open, mut all) = (Vec::new(), Vec::new());
        while let Some(at) = text.find('<') {
            assert!(!text[..at].contains(['>', '"']), "{text}");
            let (tag, rest) = text[at + 1..].split_once('>').unwrap();
            text = rest;
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop().as_deref(), Some(name));
                continue;
            }
            let (tag, closed) = match tag.strip_suffix('/') {
                Some(tag) => (tag, true),
                None => (tag, false),
            };
            let (name, mut rest) = tag.split_once(' ').unwrap_or((tag, ""));
            let mut attributes = Vec::new();
            while let Some((key, value)) = rest.split_once("=\"") {
                let (value, left) = value.split_once('"').unwrap();
                attributes.push((key.trim().to_owned(), value.to_owned()));
                rest = left;
            }
            assert_eq!(rest.trim(), "");
            all.push((name.to_owned(), attributes));
            if !closed {
                open.push(name.to_owned());
            }
        }
        assert!(open.is_empty() && text.trim().is_empty());
        all
    }

    #[test]
    fn the_drawing_is_well_formed_and_lies_on_its_page() {
        let begun = Instant::now();
        let mut spans = story(&birth(begun), &moments(begun), begun);
        spans[1].what = "reads <this> & \"that\"".to_owned();
        let page = svg(&spans);
        assert!(page.contains("&lt;this&gt; &amp;"), "{page}");
        // A quote is plain text between tags; the reader above takes it for a mistake.
        let all = elements(&page.replace("\"that\"", "that"));
        let number = |attributes: &[(String, String)], name: &str| {
            let found = attributes.iter().find(|(key, _)| key == name);
            found.map_or(0.0, |(_, value)| value.parse::<f64>().unwrap())
        };
        let (width, height) = (number(&all[0].1, "width"), number(&all[0].1, "height"));
        let bars = all.iter().filter(|(name, _)| name == "rect");
        assert!(bars.clone().count() > spans.len());
        for (_, bar) in bars {
            let right = number(bar, "x") + number(bar, "width");
            assert!(number(bar, "x") >= 0.0 && right <= width + 1.0, "{bar:?}");
            assert!(
                number(bar, "y") + number(bar, "height") <= height,
                "{bar:?}"
            );
        }
    }

    #[test]
    fn nothing_at_all_is_a_drawing_too() {
        assert!(!elements(&svg(&[])).is_empty());
    }
}
