//! The only instructions that touch guest memory.
//!
//! They are inline assembly, so that the compiler makes no assumption about memory that guests race on. On
//! x86-64 plain moves already have the order that guests expect; on AArch64 loads acquire and stores release,
//! which keeps the order of an x86 guest (TSO) for aligned accesses.

/// A machine word of 1, 2, 4, 8 or 16 bytes that guest memory can be accessed in: `u8` to `u128`, and no others.
pub trait Word: Copy + Eq + sealed::Sealed {
    /// # Safety
    /// `from` points to as many readable bytes of a live mapping as the word has.
    #[doc(hidden)]
    unsafe fn load(from: *const u8) -> Self;

    /// # Safety
    /// `to` points to as many writable bytes of a live mapping as the word has.
    #[doc(hidden)]
    unsafe fn store(to: *mut u8, value: Self);

    /// Stores `new` where `old` is found, in one locked operation; gives what was found.
    ///
    /// # Safety
    /// As `store`, and `at` is aligned to the word's size.
    #[doc(hidden)]
    unsafe fn compare_exchange(at: *mut u8, old: Self, new: Self) -> Self;

    /// The low bytes of a number.
    fn from_u128(value: u128) -> Self;

    /// The word with zeros above it.
    fn to_u128(self) -> u128;
}

mod sealed {
    /// Keeps `Word` to the types of this module.
    pub trait Sealed {}
    impl Sealed for u8 {}
    impl Sealed for u16 {}
    impl Sealed for u32 {}
    impl Sealed for u64 {}
    impl Sealed for u128 {}
}

#[cfg(target_arch = "x86_64")]
mod arch {
    use super::Word;
    use core::arch::asm;

    macro_rules! word {
        ($ty:ty, $class:ident, $size:literal, $modifier:literal, $acc:tt) => {
            impl Word for $ty {
                #[inline(always)]
                fn from_u128(value: u128) -> Self {
                    value as Self
                }

                #[inline(always)]
                fn to_u128(self) -> u128 {
                    u128::from(self)
                }

                #[inline(always)]
                unsafe fn load(from: *const u8) -> Self {
                    let value: $ty;
                    // SAFETY: the caller vouches for the range.
                    unsafe {
                        asm!(concat!("mov {0", $modifier, "}, ", $size, " ptr [{1}]"), out($class) value, in(reg) from,
                            options(nostack, preserves_flags, readonly));
                    }
                    value
                }

                #[inline(always)]
                unsafe fn store(to: *mut u8, value: Self) {
                    // SAFETY: the caller vouches for the range.
                    unsafe {
                        asm!(concat!("mov ", $size, " ptr [{1}], {0", $modifier, "}"), in($class) value, in(reg) to,
                            options(nostack, preserves_flags));
                    }
                }

                #[inline(always)]
                unsafe fn compare_exchange(at: *mut u8, old: Self, new: Self) -> Self {
                    let found: $ty;
                    // SAFETY: the caller vouches for the range and its alignment.
                    unsafe {
                        asm!(concat!("lock cmpxchg ", $size, " ptr [{1}], {0", $modifier, "}"), in($class) new, in(reg) at,
                            inout($acc) old => found, options(nostack));
                    }
                    found
                }
            }
        };
    }

    word!(u8, reg_byte, "byte", "", "al");
    word!(u16, reg, "word", ":x", "ax");
    word!(u32, reg, "dword", ":e", "eax");
    word!(u64, reg, "qword", ":r", "rax");

    impl Word for u128 {
        #[inline(always)]
        fn from_u128(value: u128) -> Self {
            value
        }

        #[inline(always)]
        fn to_u128(self) -> u128 {
            self
        }

        /// Not atomic: neither is a 16-byte SSE access guaranteed to be.
        #[inline(always)]
        unsafe fn load(from: *const u8) -> Self {
            // SAFETY: the caller vouches for all 16 bytes.
            let (low, high) = unsafe { (u64::load(from), u64::load(from.add(8))) };
            u128::from(high) << 64 | u128::from(low)
        }

        #[inline(always)]
        unsafe fn store(to: *mut u8, value: Self) {
            // SAFETY: the caller vouches for all 16 bytes.
            unsafe {
                u64::store(to, value as u64);
                u64::store(to.add(8), (value >> 64) as u64);
            }
        }

        #[inline(always)]
        unsafe fn compare_exchange(at: *mut u8, old: Self, new: Self) -> Self {
            let (low, high): (u64, u64);
            // SAFETY: the caller vouches for the range and its alignment; RBX, which the compiler keeps for
            // itself, is exchanged and restored. Every x86-64 processor that runs this program's hosts has CMPXCHG16B.
            unsafe {
                asm!("xchg {new_low}, rbx", "lock cmpxchg16b xmmword ptr [rdi]", "mov rbx, {new_low}",
                    new_low = inout(reg) new as u64 => _, in("rdi") at, in("rcx") (new >> 64) as u64,
                    inout("rax") old as u64 => low, inout("rdx") (old >> 64) as u64 => high, options(nostack));
            }
            u128::from(high) << 64 | u128::from(low)
        }
    }

    /// # Safety
    /// Both ranges of `len` bytes are mapped, and do not overlap.
    pub(crate) unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
        // SAFETY: the caller vouches for both ranges; the direction flag is clear by the ABI.
        unsafe {
            asm!("rep movsb", inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _,
                options(nostack, preserves_flags));
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod arch {
    use super::Word;
    use core::arch::asm;

    macro_rules! word {
        ($ty:ty, $suffix:literal, $modifier:literal) => {
            impl Word for $ty {
                #[inline(always)]
                fn from_u128(value: u128) -> Self {
                    value as Self
                }

                #[inline(always)]
                fn to_u128(self) -> u128 {
                    u128::from(self)
                }

                #[inline(always)]
                unsafe fn load(from: *const u8) -> Self {
                    let value: u64;
                    // SAFETY: the caller vouches for the range. An acquiring load must be aligned to be possible
                    // everywhere; others are plain loads followed by a load barrier.
                    unsafe {
                        if from.addr() % size_of::<$ty>() == 0 {
                            asm!(concat!("ldar", $suffix, " {0", $modifier, "}, [{1}]"), out(reg) value, in(reg) from,
                                options(nostack, preserves_flags));
                        } else {
                            asm!(concat!("ldr", $suffix, " {0", $modifier, "}, [{1}]"), "dmb ishld", out(reg) value, in(reg) from,
                                options(nostack, preserves_flags));
                        }
                    }
                    value as $ty
                }

                #[inline(always)]
                unsafe fn store(to: *mut u8, value: Self) {
                    // SAFETY: the caller vouches for the range.
                    unsafe {
                        if to.addr() % size_of::<$ty>() == 0 {
                            asm!(concat!("stlr", $suffix, " {0", $modifier, "}, [{1}]"), in(reg) u64::from(value), in(reg) to,
                                options(nostack, preserves_flags));
                        } else {
                            asm!("dmb ish", concat!("str", $suffix, " {0", $modifier, "}, [{1}]"), in(reg) u64::from(value), in(reg) to,
                                options(nostack, preserves_flags));
                        }
                    }
                }

                #[inline(always)]
                unsafe fn compare_exchange(at: *mut u8, old: Self, new: Self) -> Self {
                    let found: u64;
                    // SAFETY: the caller vouches for the range and its alignment.
                    unsafe {
                        asm!(
                            "2:",
                            concat!("ldaxr", $suffix, " {found", $modifier, "}, [{at}]"),
                            concat!("cmp {found", $modifier, "}, {old", $modifier, "}"),
                            "b.ne 3f",
                            concat!("stlxr", $suffix, " {status:w}, {new", $modifier, "}, [{at}]"),
                            "cbnz {status:w}, 2b",
                            "3: dmb ish",
                            found = out(reg) found, status = out(reg) _, at = in(reg) at, old = in(reg) u64::from(old),
                            new = in(reg) u64::from(new), options(nostack),
                        );
                    }
                    found as $ty
                }
            }
        };
    }

    word!(u8, "b", ":w");
    word!(u16, "h", ":w");
    word!(u32, "", ":w");
    word!(u64, "", ":x");

    impl Word for u128 {
        #[inline(always)]
        fn from_u128(value: u128) -> Self {
            value
        }

        #[inline(always)]
        fn to_u128(self) -> u128 {
            self
        }

        #[inline(always)]
        unsafe fn load(from: *const u8) -> Self {
            // SAFETY: the caller vouches for all 16 bytes.
            let (low, high) = unsafe { (u64::load(from), u64::load(from.add(8))) };
            u128::from(high) << 64 | u128::from(low)
        }

        #[inline(always)]
        unsafe fn store(to: *mut u8, value: Self) {
            // SAFETY: the caller vouches for all 16 bytes.
            unsafe {
                u64::store(to, value as u64);
                u64::store(to.add(8), (value >> 64) as u64);
            }
        }

        #[inline(always)]
        unsafe fn compare_exchange(at: *mut u8, old: Self, new: Self) -> Self {
            let (low, high): (u64, u64);
            // SAFETY: the caller vouches for the range and its alignment. A failed comparison stores back what
            // it found, because only a successful exclusive store proves that the pair was read in one piece.
            unsafe {
                asm!(
                    "2: ldaxp {low}, {high}, [{at}]",
                    "cmp {low}, {old_low}",
                    "ccmp {high}, {old_high}, #0, eq",
                    "csel {put_low}, {new_low}, {low}, eq",
                    "csel {put_high}, {new_high}, {high}, eq",
                    "stlxp {status:w}, {put_low}, {put_high}, [{at}]",
                    "cbnz {status:w}, 2b",
                    "dmb ish",
                    low = out(reg) low, high = out(reg) high, at = in(reg) at, status = out(reg) _,
                    put_low = out(reg) _, put_high = out(reg) _,
                    old_low = in(reg) old as u64, old_high = in(reg) (old >> 64) as u64,
                    new_low = in(reg) new as u64, new_high = in(reg) (new >> 64) as u64, options(nostack),
                );
            }
            u128::from(high) << 64 | u128::from(low)
        }
    }

    /// # Safety
    /// Both ranges of `len` bytes are mapped, and do not overlap.
    pub(crate) unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
        let words = len & !7;
        // SAFETY: the caller vouches for both ranges; the loop ends at the last whole word.
        unsafe {
            if words > 0 {
                asm!(
                    "2: ldr {word}, [{from}], #8",
                    "str {word}, [{to}], #8",
                    "subs {n}, {n}, #8",
                    "b.ne 2b",
                    word = out(reg) _, from = inout(reg) from => _, to = inout(reg) to => _, n = inout(reg) words => _,
                    options(nostack),
                );
            }
            for at in words..len {
                let byte: u64;
                asm!("ldrb {0:w}, [{1}]", out(reg) byte, in(reg) from.add(at), options(nostack, preserves_flags));
                asm!("strb {0:w}, [{1}]", in(reg) byte, in(reg) to.add(at), options(nostack, preserves_flags));
            }
        }
    }
}

pub(crate) use arch::copy;
