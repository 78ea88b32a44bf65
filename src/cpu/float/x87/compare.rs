//! FCOM, FUCOM, FCOMI, FUCOMI, FICOM, FTST and FXAM.

use super::super::arithmetic as exact;
use super::super::unpacked::{Kind, Unpacked};
use super::super::{Flags, Relation};
use super::{F80, Operand};

fn relate(x: &Unpacked, y: &Unpacked, quiet_is_valid: bool) -> (Relation, Flags) {
    let relation = exact::compare(x, y);
    let flags = if relation == Relation::Unordered {
        Flags::IE.when(!quiet_is_valid || x.is_invalid() || y.is_invalid())
    } else {
        x.denormal() | y.denormal()
    };
    (relation, flags)
}

/// FCOM, FCOMI: every NaN is invalid.
pub fn compare(a: F80, b: impl Operand) -> (Relation, Flags) {
    relate(&a.unpack(), &b.widen().1, false)
}

/// FUCOM, FUCOMI: only signaling NaNs and unsupported encodings are invalid.
pub fn compare_quiet(a: F80, b: F80) -> (Relation, Flags) {
    relate(&a.unpack(), &b.unpack(), true)
}

/// FTST: `a` against zero.
pub fn test(a: F80) -> (Relation, Flags) {
    compare(a, F80::ZERO)
}

/// FXAM: the class of a register that is not empty in C3, C2 and C0, its sign in C1 (SDM 2, FXAM).
pub fn examine(a: F80) -> Flags {
    let unpacked = a.unpack();
    let class = match unpacked.kind {
        Kind::Unsupported => Flags::empty(),
        Kind::Quiet | Kind::Signaling => Flags::C0,
        Kind::Finite if unpacked.denormal => Flags::C3 | Flags::C2,
        Kind::Finite => Flags::C2,
        Kind::Infinity => Flags::C2 | Flags::C0,
        Kind::Zero => Flags::C3,
    };
    class | Flags::C1.when(a.is_negative())
}
