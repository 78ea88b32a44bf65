//! A writer of AML, the byte code of ACPI's definition blocks (ACPI 6.5, chapter 20).
//!
//! Two types keep the grammar: a `Value` is what stands on the right of an assignment, a `Term` what stands in a
//! list of statements or objects. Each function is named after the ASL operator that it encodes. What is missing is
//! what our tables do not need: loops, mutexes, notifications, string operations.

mod name;
pub mod resource;

use name::{name_path, name_seg};

/// A constant, a name, an argument, a local variable or an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value(Vec<u8>);

/// A statement, or an object that a scope declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term(Vec<u8>);

/// The AML of a list of terms: the body of a definition block.
pub fn block(terms: &[Term]) -> Vec<u8> {
    terms
        .iter()
        .flat_map(|term| term.0.iter().copied())
        .collect()
}

// ---- Values ---------------------------------------------------------------------------------------------------

/// An integer, in its shortest encoding.
pub fn int(value: u64) -> Value {
    let bytes = value.to_le_bytes();
    Value(match value {
        0 | 1 => vec![value as u8],
        2..=0xff => [&[0x0a], &bytes[..1]].concat(),
        0x100..=0xffff => [&[0x0b], &bytes[..2]].concat(),
        0x1_0000..=0xffff_ffff => [&[0x0c], &bytes[..4]].concat(),
        _ => [&[0x0e], &bytes[..]].concat(),
    })
}

/// A string.
pub fn string(text: &str) -> Value {
    Value([&[0x0d], text.as_bytes(), &[0]].concat())
}

/// A compressed EISA id, such as "PNP0501": three letters of five bits and four digits, the first letter in the
/// highest bits of the first byte (ACPI 6.5, 19.6.36).
pub fn eisa_id(id: &[u8; 7]) -> Value {
    let letter = |i: usize| u32::from(id[i].wrapping_sub(0x40) & 0x1f);
    let digit = |i: usize| char::from(id[i]).to_digit(16).unwrap_or(0);
    let letters = letter(0) << 26 | letter(1) << 21 | letter(2) << 16;
    let digits = digit(3) << 12 | digit(4) << 8 | digit(5) << 4 | digit(6);
    int((letters | digits).swap_bytes().into())
}

/// A UUID as a buffer (ACPI 6.5, 19.6.142): the first three groups are little-endian. `uuid` is the number that
/// its text spells.
pub fn uuid(uuid: u128) -> Value {
    let mut bytes = uuid.to_be_bytes();
    bytes[0..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    buffer(&bytes)
}

/// A buffer of constant bytes.
pub fn buffer(bytes: &[u8]) -> Value {
    Value(packaged(
        &[0x11],
        &[&int(bytes.len() as u64).0, bytes].concat(),
    ))
}

/// A package of at most 255 elements.
pub fn package(elements: &[Value]) -> Value {
    let elements = &elements[..elements.len().min(255)];
    let mut body = vec![elements.len() as u8];
    body.extend(concat(elements));
    Value(packaged(&[0x12], &body))
}

/// A named object: "PICM", "^LNKA" or "\\_SB.PCI0".
pub fn path(path: &str) -> Value {
    Value(name_path(path))
}

/// An argument of the method, 0 to 6.
pub fn arg(number: u8) -> Value {
    Value(vec![0x68 + number.min(6)])
}

/// A local variable, 0 to 7.
pub fn local(number: u8) -> Value {
    Value(vec![0x60 + number.min(7)])
}

/// `a & b`.
pub fn and(a: &Value, b: &Value) -> Value {
    binary(0x7b, a, b)
}

/// `a | b`.
pub fn or(a: &Value, b: &Value) -> Value {
    binary(0x7d, a, b)
}

/// `a - b`.
pub fn subtract(a: &Value, b: &Value) -> Value {
    binary(0x74, a, b)
}

/// `a << b`.
pub fn shift_left(a: &Value, b: &Value) -> Value {
    binary(0x79, a, b)
}

/// The number of the lowest set bit, counted from 1; 0 where none is set.
pub fn find_set_right_bit(a: &Value) -> Value {
    Value([&[0x82], &a.0[..], NO_TARGET].concat())
}

/// `a == b`.
pub fn equal(a: &Value, b: &Value) -> Value {
    Value([&[0x93], &a.0[..], &b.0].concat())
}

/// `!a`.
pub fn not(a: &Value) -> Value {
    Value([&[0x92], &a.0[..]].concat())
}

// ---- Terms ----------------------------------------------------------------------------------------------------

/// `Scope (path) { … }`.
pub fn scope(path: &str, body: &[Term]) -> Term {
    Term(packaged(&[0x10], &[name_path(path), block(body)].concat()))
}

/// `Device (name) { … }`.
pub fn device(name: &str, body: &[Term]) -> Term {
    Term(packaged(
        &[0x5b, 0x82],
        &[&name_seg(name)[..], &block(body)].concat(),
    ))
}

/// `Name (name, value)`.
pub fn name(name: &str, value: &Value) -> Term {
    Term([&[0x08], &name_seg(name)[..], &value.0].concat())
}

/// Whether a method may run more than once at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concurrency {
    /// It may: it declares no names.
    NotSerialized,
    /// It may not.
    Serialized,
}

/// `Method (name, args, concurrency) { … }`.
pub fn method(name: &str, args: u8, concurrency: Concurrency, body: &[Term]) -> Term {
    let flags = args & 7 | u8::from(concurrency == Concurrency::Serialized) << 3;
    let body = [&name_seg(name)[..], &[flags], &block(body)].concat();
    Term(packaged(&[0x14], &body))
}

/// `Return (value)`.
pub fn ret(value: &Value) -> Term {
    Term([&[0xa4], &value.0[..]].concat())
}

/// `target = value`. An operator that ends with a place for its result stores there itself.
pub fn store(value: &Value, target: &Value) -> Term {
    let ends_with_target = value
        .0
        .first()
        .is_some_and(|opcode| WITH_TARGET.contains(opcode));
    match value.0.split_last() {
        Some((_, operator)) if ends_with_target => Term([operator, &target.0].concat()),
        _ => Term([&[0x70], &value.0[..], &target.0].concat()),
    }
}

/// `If (condition) { … }`.
pub fn if_then(condition: &Value, body: &[Term]) -> Term {
    Term(packaged(
        &[0xa0],
        &[&condition.0[..], &block(body)].concat(),
    ))
}

/// `If (condition) { … } Else { … }`.
pub fn if_else(condition: &Value, body: &[Term], otherwise: &[Term]) -> Term {
    let mut bytes = if_then(condition, body).0;
    bytes.extend(packaged(&[0xa1], &block(otherwise)));
    Term(bytes)
}

/// `CreateWordField (buffer, offset, name)`.
pub fn create_word_field(buffer: &Value, offset: u64, name: &str) -> Term {
    create_field(0x8b, buffer, offset, name)
}

/// `CreateDWordField (buffer, offset, name)`.
pub fn create_dword_field(buffer: &Value, offset: u64, name: &str) -> Term {
    create_field(0x8a, buffer, offset, name)
}

/// `OperationRegion (name, PCI_Config, offset, len)`, in the device that the scope is.
pub fn pci_config_region(name: &str, offset: u64, len: u64) -> Term {
    const PCI_CONFIG: u8 = 2;
    let (offset, len) = (int(offset), int(len));
    Term(
        [
            &[0x5b, 0x80],
            &name_seg(name)[..],
            &[PCI_CONFIG],
            &offset.0,
            &len.0,
        ]
        .concat(),
    )
}

/// `Field (region, ByteAcc, NoLock, Preserve) { name, 8, … }`: one byte a name, and a byte passed over for `None`.
pub fn byte_fields(region: &str, names: &[Option<&str>]) -> Term {
    const BYTE_ACC_NO_LOCK_PRESERVE: u8 = 1;
    let mut body = name_seg(region).to_vec();
    body.push(BYTE_ACC_NO_LOCK_PRESERVE);
    for name in names {
        match name {
            Some(name) => body.extend(name_seg(name)),
            None => body.push(0),
        }
        body.push(8);
    }
    Term(packaged(&[0x5b, 0x81], &body))
}

// ---- Encoding -------------------------------------------------------------------------------------------------

/// Where an operator would store its result as well: nowhere.
const NO_TARGET: &[u8] = &[0];

/// Operators that end with a target: subtract, shift left, and, or, find set right bit.
const WITH_TARGET: [u8; 5] = [0x74, 0x79, 0x7b, 0x7d, 0x82];

fn binary(opcode: u8, a: &Value, b: &Value) -> Value {
    Value([&[opcode], &a.0[..], &b.0, NO_TARGET].concat())
}

fn create_field(opcode: u8, buffer: &Value, offset: u64, name: &str) -> Term {
    Term([&[opcode], &buffer.0[..], &int(offset).0, &name_seg(name)].concat())
}

fn concat(values: &[Value]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.0.iter().copied())
        .collect()
}

/// An opcode, the length of what follows with the length itself (ACPI 6.5, 20.2.4), and the body.
fn packaged(opcode: &[u8], body: &[u8]) -> Vec<u8> {
    [opcode, &package_length(body.len()), body].concat()
}

/// Up to 63 in one byte; else the low four bits and the number of further bytes in the first.
fn package_length(body: usize) -> Vec<u8> {
    if body < 0x3f {
        return vec![body as u8 + 1];
    }
    let further = (1..=3)
        .find(|n| body + n + 1 < 1 << (4 + 8 * n))
        .unwrap_or(3);
    let total = body + further + 1;
    let mut bytes = vec![(further << 6 | total & 0xf) as u8];
    bytes.extend((total >> 4).to_le_bytes().iter().take(further));
    bytes
}

#[cfg(test)]
mod tests;
