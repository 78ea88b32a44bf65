//! What the guest's kernel says on COM1: kept for when it dies, and watched for its last line.
//!
//! The bytes are the guest's. Lines are cut at a bound, and control characters never reach our terminal.

use super::verdict::printable;
use std::collections::VecDeque;

/// A longer line is cut into several.
const LINE_MAX: usize = 1024;
/// How many of the last lines are kept.
const KEPT: usize = 24;
/// How Linux begins its last line (kernel/panic.c prints it at the emergency level, which `quiet` does not hide).
const PANIC: &str = "Kernel panic - not syncing";

/// The console's last lines.
#[derive(Debug, Default)]
pub(super) struct KernelLog {
    lines: VecDeque<String>,
    current: Vec<u8>,
}

impl KernelLog {
    /// Takes in bytes and calls `line` with each line that they complete.
    pub(super) fn push(&mut self, bytes: &[u8], mut line: impl FnMut(&str)) {
        for &byte in bytes {
            if byte != b'\n' {
                self.current.push(byte);
            }
            if byte == b'\n' || self.current.len() >= LINE_MAX {
                self.complete(&mut line);
            }
        }
    }

    /// The last lines, the unfinished one included.
    pub(super) fn last_lines(&mut self) -> Vec<String> {
        if !self.current.is_empty() {
            self.complete(&mut |_| {});
        }
        self.lines.iter().cloned().collect()
    }

    fn complete(&mut self, line: &mut impl FnMut(&str)) {
        let text = String::from_utf8_lossy(&self.current);
        let text = printable(text.trim_end_matches('\r'));
        self.current.clear();
        line(&text);
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(text);
    }
}

/// What the kernel says that killed it, if this line is its last one.
pub(super) fn panic_reason(line: &str) -> Option<&str> {
    let at = line.find(PANIC)? + PANIC.len();
    Some(line[at..].trim_start_matches(':').trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let mut log = KernelLog::default();
        let mut seen = Vec::new();
        for piece in pieces {
            log.push(piece, |line| seen.push(line.to_owned()));
        }
        seen
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        assert_eq!(lines(&[b"one\r\ntw", b"o\r", b"\nthree"]), ["one", "two"]);
    }

    #[test]
    fn a_line_without_an_end_is_cut() {
        let long = [b'x'; 3 * LINE_MAX];
        assert_eq!(lines(&[&long]).len(), 3);
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let mut log = KernelLog::default();
        for number in 0..100 {
            log.push(format!("{number}\n").as_bytes(), |_| {});
        }
        log.push(b"unfinished", |_| {});
        let last = log.last_lines();
        assert_eq!(last.len(), KEPT);
        assert_eq!(&last[KEPT - 2..], ["99", "unfinished"]);
    }

    #[test]
    fn control_characters_do_not_come_through() {
        assert_eq!(lines(&[b"a\x1b[2Jb\xff\n"]), ["a?[2Jb\u{fffd}"]);
    }

    #[test]
    fn the_panic_line_gives_its_reason() {
        let line = "[    1.234] Kernel panic - not syncing: VFS: Unable to mount root fs";
        assert_eq!(panic_reason(line), Some("VFS: Unable to mount root fs"));
        assert_eq!(panic_reason("Kernel panic"), None);
    }
}
