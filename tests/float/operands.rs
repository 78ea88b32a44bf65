//! Random operands, biased to where floating point is difficult.

use xlaunch::cpu::float::x87::F80;

/// A small generator of random numbers (SplitMix64), so that a failure can be repeated.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.word() % bound
    }

    pub(crate) fn vector(&mut self) -> u128 {
        u128::from(self.word()) << 64 | u128::from(self.word())
    }

    /// A field of `width` bits: random, few ones, long runs, or almost a tie at a random place.
    fn bits(&mut self, width: u32) -> u64 {
        let mask = u64::MAX >> (64 - width);
        let place = self.below(u64::from(width)) as u32;
        let value = match self.below(8) {
            0 => 0,
            1 => mask,
            2 => 1 << place,
            3 => u64::MAX << place,
            4 => !(u64::MAX << place),
            5 => (self.word() << place) ^ self.below(4),
            _ => self.word(),
        };
        value & mask
    }

    /// A biased exponent: the ends, the middle, near `near`, or anything.
    fn exponent(&mut self, width: u32, near: u64) -> u64 {
        let max = (1 << width) - 1;
        let value = match self.below(10) {
            0 => 0,
            1 => max,
            2 => 1 + self.below(3),
            3 => max - 1 - self.below(3),
            4 => (max >> 1).wrapping_add(self.below(9)).wrapping_sub(4),
            5 | 6 => near.wrapping_add(self.below(7)).wrapping_sub(3),
            7 => near.wrapping_add(self.below(140)).wrapping_sub(70),
            _ => self.word(),
        };
        value & max
    }

    fn float(&mut self, fraction: u32, exponent: u32, near: u64) -> u64 {
        let near = near >> fraction & ((1 << exponent) - 1);
        let sign = self.below(2) << (fraction + exponent);
        sign | self.exponent(exponent, near) << fraction | self.bits(fraction)
    }

    /// Bits of a 32-bit float, its exponent often near that of `near`.
    pub(crate) fn f32(&mut self, near: u32) -> u32 {
        self.float(23, 8, u64::from(near)) as u32
    }

    /// Bits of a 64-bit float, its exponent often near that of `near`.
    pub(crate) fn f64(&mut self, near: u64) -> u64 {
        self.float(52, 11, near)
    }

    /// An 80-bit float, its exponent often near that of `near`; sometimes an unsupported encoding.
    pub(crate) fn f80(&mut self, near: F80) -> F80 {
        let exponent = self.exponent(15, u64::from(near.sign_exponent & 0x7fff));
        let integer = match (exponent, self.below(32)) {
            (0, n) => u64::from(n < 4),
            (_, 0) => 0,
            _ => 1,
        };
        F80 {
            mantissa: integer << 63 | self.bits(63),
            sign_exponent: (self.below(2) << 15 | exponent) as u16,
        }
    }

    /// An integer of up to 64 bits, often short.
    pub(crate) fn integer(&mut self) -> i64 {
        let shift = self.below(64);
        (self.bits(64) as i64) >> shift
    }
}
