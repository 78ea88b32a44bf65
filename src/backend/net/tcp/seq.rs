//! Sequence numbers (RFC 9293, 3.4): 32 bits that wrap.

use std::ops::Add;

/// A sequence number. Two of them compare as long as they are less than 2^31 apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seq(pub u32);

impl Seq {
    /// How far this one is behind `earlier`, which it does not come before.
    pub fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// Whether this one comes before `other`.
    pub fn before(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    /// Whether this one comes behind `other`.
    pub fn after(self, other: Self) -> bool {
        other.before(self)
    }

    /// The later of two.
    pub fn latest(self, other: Self) -> Self {
        if self.before(other) { other } else { self }
    }

    /// How far this one is behind `other`; zero where it does not come behind it.
    pub fn beyond(self, other: Self) -> u32 {
        if self.after(other) {
            self.since(other)
        } else {
            0
        }
    }
}

impl Add<u32> for Seq {
    type Output = Self;

    fn add(self, count: u32) -> Self {
        Self(self.0.wrapping_add(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_across_the_wrap() {
        for (a, b, before, beyond) in [
            (0, 1, true, 0),
            (1, 0, false, 1),
            (5, 5, false, 0),
            (u32::MAX, 0, true, 0),
            (3, 0xffff_fffe, false, 5),
            (0x7fff_ffff, 0, false, 0x7fff_ffff),
        ] {
            assert_eq!(Seq(a).before(Seq(b)), before, "{a:#x} {b:#x}");
            assert_eq!(Seq(a).after(Seq(b)), Seq(b).before(Seq(a)));
            assert_eq!(Seq(a).beyond(Seq(b)), beyond, "{a:#x} {b:#x}");
            let later = if before { b } else { a };
            assert_eq!(Seq(a).latest(Seq(b)), Seq(later));
        }
        assert_eq!(Seq(u32::MAX) + 2, Seq(1));
    }
}
