use super::*;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

/// Whoever reads an input ends with it, rather than asking again and again.
#[test]
fn the_end_of_an_input_is_told_once() {
    type Reader = fn(File, &Allowance, &SyncSender<Event>);
    for read in [read_input as Reader, read_terminal] {
        let (sender, events) = sync_channel(4);
        let reader = thread::spawn(move || {
            let allowance = Allowance::default();
            allowance.allow(100);
            read(File::open("/dev/null").unwrap(), &allowance, &sender);
        });
        let next = || events.recv_timeout(Duration::from_secs(20));
        assert!(matches!(next(), Ok(Event::InputEnded)));
        assert!(matches!(next(), Err(RecvTimeoutError::Disconnected)));
        reader.join().unwrap();
    }
}
