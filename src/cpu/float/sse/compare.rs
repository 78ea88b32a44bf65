//! CMPccSS and its kin, COMISS and UCOMISS.

use super::super::arithmetic as exact;
use super::super::unpacked::Unpacked;
use super::super::{Env, Flags, Relation};
use super::{Answer, Format, unpack};

/// The comparison predicates of CMPPS's immediate (SDM 2, CMPPS, table 3-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Predicate {
    /// Equal.
    Eq,
    /// Less than; signaling.
    Lt,
    /// Less than or equal; signaling.
    Le,
    /// Unordered.
    Unord,
    /// Not equal.
    Neq,
    /// Not less than; signaling.
    Nlt,
    /// Not less than or equal; signaling.
    Nle,
    /// Ordered.
    Ord,
}

impl Predicate {
    /// The predicate that the low three bits of an immediate encode.
    pub const fn from_bits(immediate: u8) -> Self {
        match immediate & 7 {
            0 => Self::Eq,
            1 => Self::Lt,
            2 => Self::Le,
            3 => Self::Unord,
            4 => Self::Neq,
            5 => Self::Nlt,
            6 => Self::Nle,
            _ => Self::Ord,
        }
    }

    /// Whether operands in this relation satisfy it.
    pub const fn holds(self, relation: Relation) -> bool {
        match self {
            Self::Eq => matches!(relation, Relation::Equal),
            Self::Lt => matches!(relation, Relation::Less),
            Self::Le => matches!(relation, Relation::Less | Relation::Equal),
            Self::Unord => matches!(relation, Relation::Unordered),
            Self::Neq => !matches!(relation, Relation::Equal),
            Self::Nlt => !matches!(relation, Relation::Less),
            Self::Nle => !matches!(relation, Relation::Less | Relation::Equal),
            Self::Ord => !matches!(relation, Relation::Unordered),
        }
    }

    /// Whether a quiet NaN makes it invalid.
    const fn is_signaling(self) -> bool {
        matches!(self, Self::Lt | Self::Le | Self::Nlt | Self::Nle)
    }
}

fn relate(x: &Unpacked, y: &Unpacked, signaling: bool) -> (Relation, Flags) {
    let relation = exact::compare(x, y);
    let flags = if relation == Relation::Unordered {
        Flags::IE.when(signaling || x.is_invalid() || y.is_invalid())
    } else {
        x.denormal() | y.denormal()
    };
    (relation, flags)
}

/// UCOMISS, UCOMISD: only a signaling NaN is invalid.
pub fn compare_quiet<F: Format>(a: u64, b: u64, env: &Env) -> (Relation, Flags) {
    let (x, y) = (unpack::<F>(a, env.daz), unpack::<F>(b, env.daz));
    relate(&x, &y, false)
}

/// COMISS, COMISD: every NaN is invalid.
pub fn compare_signaling<F: Format>(a: u64, b: u64, env: &Env) -> (Relation, Flags) {
    let (x, y) = (unpack::<F>(a, env.daz), unpack::<F>(b, env.daz));
    relate(&x, &y, true)
}

/// CMPccSS, CMPccSD: all ones if the predicate holds, else zero.
pub fn compare<F: Format>(a: u64, b: u64, predicate: Predicate, env: &Env) -> Answer {
    let (x, y) = (unpack::<F>(a, env.daz), unpack::<F>(b, env.daz));
    let (relation, flags) = relate(&x, &y, predicate.is_signaling());
    let ones = F::SIGN | (F::SIGN - 1);
    (if predicate.holds(relation) { ones } else { 0 }, flags)
}
