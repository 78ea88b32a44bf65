//! Cases from the rows of the instruction table: operands that fit the row's forms, a state in which they make sense.

use crate::place::{PAGE, TAKEN, WINDOW, WINDOW_LEN, slot};
use crate::random::Random;
use crate::wire::Case;
use crate::{prepare, undefined};
use hvf_sys::cpu::table::{Aux, Form, Row, Width, allow, flag};
use hvf_sys::cpu::{Fpu, Insn, InsnBuilder, Mem, Op, Operand, Prefix, Reg, State};
use hvf_sys::jit;

/// What kind of code a case is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// One instruction of 64-bit code.
    Long,
    /// One instruction of 32-bit code.
    Legacy,
    /// Several of 64-bit code: memory is addressed through R15, and neither it nor RSP is an operand.
    Sequence,
}

/// An instruction in the making, with the state that it will start in.
pub(crate) struct Plan<'r> {
    pub(crate) random: &'r mut Random,
    pub(crate) op: Op,
    pub(crate) width: u8,
    pub(crate) aux: u8,
    pub(crate) operands: [Operand; 3],
    pub(crate) immediate: u64,
    pub(crate) prefix: Prefix,
    pub(crate) address_size: u8,
    pub(crate) state: State,
    pub(crate) memory: [u8; WINDOW_LEN],
    /// The general registers whose values matter already.
    pub(crate) pinned: u16,
    /// The address that the memory operand is to have.
    pub(crate) target: u64,
    pub(crate) slot: u64,
    pub(crate) style: Style,
}

/// A case of the row: its instruction with random operands, in slot `n`, and its memory operand's address.
/// `None` where this draw has no encoding.
pub(crate) fn case(row: &Row, style: Style, random: &mut Random, n: usize) -> Option<(Case, u64)> {
    let mut plan = Plan::new(row, random, n, style);
    plan.shape(row);
    prepare::registers(&mut plan);
    let insn = plan.build(row)?;
    if undefined::skipped(&insn) {
        return None;
    }
    prepare::memory(&mut plan, &insn);
    if style == Style::Legacy {
        plan.narrow();
    }
    let Plan {
        state,
        memory,
        target,
        ..
    } = plan;
    let insns = vec![insn];
    Some((
        Case {
            insns,
            state,
            memory,
        },
        target,
    ))
}

/// The register through which sequences address memory, and its value.
const BASE: usize = 15;
const BASE_VALUE: u64 = WINDOW + 256;

/// A case of several instructions of `rows`, in slot `n`. What one leaves undefined the next does not see: behind an
/// instruction that leaves flags undefined stands a CMP.
pub(crate) fn sequence(rows: &[&Row], random: &mut Random, n: usize) -> Case {
    let mut case = Case {
        insns: vec![],
        state: state(random),
        memory: memory(random),
    };
    case.state.gpr[BASE] = BASE_VALUE;
    let len = 2 + random.below(7) as usize;
    while case.insns.len() < len {
        let row = random.pick(rows);
        let mut plan = Plan::new(row, random, n, Style::Sequence);
        plan.shape(row);
        plan.target = BASE_VALUE + plan.random.below(512) & !(plan.random.pick(&[0, 15, 15, 15]));
        let Some(insn) = plan.build(row) else {
            continue;
        };
        if undefined::skipped(&insn) {
            continue;
        }
        case.insns.push(insn);
        if undefined::clouds_flags(insn.op()) {
            let registers = [random.below(14) as u8 & 3, random.below(14) as u8 | 8];
            let [a, b] = registers.map(|n| Operand::reg(Reg::Gpr(n)));
            let compare = InsnBuilder::new(Op::Cmp, 4, true)
                .operand(0, a)
                .operand(1, b);
            case.insns.push(compare.build(1));
        }
    }
    case
}

/// Whether an instruction of the row makes sense in a sequence: it goes on to the next, addresses memory by operands, and
/// everything that it leaves is defined, the flags apart.
pub(crate) fn fits_sequences(row: &Row) -> bool {
    use Op::*;
    let control = matches!(
        row.op,
        Jcc | Jmp | Call | Ret | Push | Pop | Pushf | Popf | Enter | Leave | Div | Idiv
    );
    let memory = matches!(row.op, Bt | Bts | Btr | Btc) || row.flags & flag::IMPLIED != 0;
    let state = matches!(
        row.op,
        Shld | Shrd
            | Cmpxchg16b
            | Ldmxcsr
            | Fxsave
            | Fxrstor
            | Fnsave
            | Frstor
            | Fnstenv
            | Fldenv
            | Fldcw
            | Fnstsw
    );
    let vague = undefined::is_transcendental(row.op) || undefined::is_approximation(row.op);
    !(control || memory || state || vague)
}

fn address_size(style: Style, random: &mut Random) -> u8 {
    let native = if style == Style::Legacy { 4 } else { 8 };
    if random.one_in(16) {
        native / 2
    } else {
        native
    }
}

fn width(row: &Row, style: Style, random: &mut Random) -> u8 {
    match row.width {
        Width::N | Width::F64 | Width::Y if style == Style::Legacy => 4,
        Width::V | Width::S | Width::D64 if style == Style::Legacy => random.pick(&[2, 4, 4]),
        Width::B => 1,
        Width::W => 2,
        Width::L => 4,
        Width::Q | Width::N | Width::F64 => 8,
        Width::T => 10,
        Width::X => 16,
        Width::P => random.pick(&[8, 16]),
        Width::PL => random.pick(&[4, 16]),
        Width::V | Width::S => random.pick(&[2, 4, 8]),
        Width::Z => random.pick(&[2, 4]),
        Width::Y => random.pick(&[4, 8]),
        Width::D64 => random.pick(&[2, 8]),
    }
}

impl<'r> Plan<'r> {
    fn new(row: &Row, random: &'r mut Random, n: usize, style: Style) -> Self {
        Self {
            op: row.op,
            width: width(row, style, random),
            aux: 0,
            operands: [Operand::NONE; 3],
            immediate: 0,
            prefix: Prefix::default(),
            address_size: address_size(style, random),
            state: state(random),
            memory: memory(random),
            pinned: 1 << 4,
            target: 0,
            slot: slot(n),
            style,
            random,
        }
    }

    /// Chooses operands, `aux` and prefixes.
    fn shape(&mut self, row: &Row) {
        let mem =
            row.allow & allow::MEM != 0 && (row.allow & allow::REG == 0 || self.random.one_in(2));
        let wide = match row.width {
            Width::W => self.random.one_in(2),
            _ => self.width == 16,
        };
        for (n, form) in row.forms.iter().enumerate() {
            self.operands[n] = self.operand(*form, mem, wide);
        }
        self.aux = match row.aux {
            Aux::Fixed(aux) => aux,
            Aux::Condition => self.random.below(16) as u8,
            Aux::V if self.width == 8 => 8,
            Aux::V => self.random.pick(&[2, 4]),
            Aux::Z => self.width.min(4),
            Aux::Y => self.random.pick(&[4, 8]),
            Aux::Level => self.random.pick(&[0, 0, 1, 2, 3, 5]),
        };
        let to_memory = self.operands[0].is_mem();
        self.prefix.lock = row.flags & flag::LOCK != 0 && to_memory && self.random.one_in(4);
        if row.flags & flag::REP != 0 {
            let while_not_equal = row.flags & flag::REPNE != 0 && self.random.one_in(2);
            let repeats = self.random.one_in(2);
            self.prefix.rep = repeats && !while_not_equal;
            self.prefix.repne = repeats && while_not_equal;
        }
    }

    fn operand(&mut self, form: Form, mem: bool, wide: bool) -> Operand {
        let any = self.random.below(self.registers()) as u8;
        let register = match form {
            Form::None => return Operand::NONE,
            Form::E | Form::Eb | Form::M | Form::Wx | Form::Qq | Form::Qv if mem => {
                return Operand::MEM;
            }
            Form::O => return Operand::MEM,
            Form::Eb | Form::Gb | Form::Zb if self.random.one_in(4) => Reg::High(any & 3),
            Form::E | Form::Eb | Form::R | Form::G | Form::Gb | Form::Z | Form::Zb => {
                self.general()
            }
            Form::Acc => Reg::Gpr(0),
            Form::Cl => Reg::Gpr(1),
            Form::Dx => Reg::Gpr(2),
            Form::Vx | Form::Wx | Form::Ux => Reg::Xmm(any),
            Form::Pv | Form::Qv | Form::Nv if wide => Reg::Xmm(any),
            Form::Pq | Form::Qq | Form::Nq | Form::Pv | Form::Qv | Form::Nv => Reg::Mm(any),
            Form::St0 => Reg::St(0),
            Form::Sti => Reg::St(any),
            _ => {
                self.immediate = self.constant(form);
                return Operand::IMM;
            }
        };
        Operand::reg(register)
    }

    /// Any general register, the stack pointer seldom.
    fn general(&mut self) -> Reg {
        match self.random.below(self.registers()) as u8 {
            4 if self.style == Style::Sequence || !self.random.one_in(4) => Reg::Gpr(5),
            15 if self.style == Style::Sequence => Reg::Gpr(14),
            n => Reg::Gpr(n),
        }
    }

    fn constant(&mut self, form: Form) -> u64 {
        let any = self.random.integer();
        match form {
            Form::Ib => any as i8 as u64,
            Form::Ub => any & 0xff,
            Form::Uw => any & 0x3f,
            Form::Iz if self.width == 2 => any as i16 as u64,
            Form::Iz => any as i32 as u64,
            Form::Iv if self.width == 1 => any as i8 as u64,
            Form::Iv if self.width == 2 => any as i16 as u64,
            Form::Iv if self.width == 4 => any as i32 as u64,
            Form::One => 1,
            Form::Jb | Form::Jz => TAKEN,
            _ => any,
        }
    }

    /// The finished instruction; the registers of its address get what makes the address `target`.
    fn build(&mut self, row: &Row) -> Option<Insn> {
        let mut builder = InsnBuilder::new(self.op, self.width, self.style != Style::Legacy)
            .aux(self.aux)
            .prefix(self.prefix);
        if self.operands.iter().any(|operand| operand.is_imm()) {
            builder = builder.immediate(self.immediate);
        }
        for (n, operand) in self.operands.into_iter().enumerate() {
            builder = builder.operand(n, operand);
        }
        if row.flags & flag::IMPLIED != 0 {
            builder = builder.implied_address(3, self.address_size);
        }
        if !self.operands.contains(&Operand::MEM) {
            return encodable(builder.build(1));
        }
        let mem = if row.forms.contains(&Form::O) {
            self.absolute(if self.style == Style::Legacy { 4 } else { 8 })
        } else {
            self.address()
        };
        if !mem.rip_relative {
            return encodable(builder.mem(mem).build(1));
        }
        let len = jit::encode(&builder.mem(mem).build(1))?.as_bytes().len() as u64;
        let displacement = self.target.wrapping_sub(self.slot + len) as i64;
        encodable(
            builder
                .mem(Mem {
                    displacement,
                    ..mem
                })
                .build(1),
        )
    }

    fn absolute(&self, address_size: u8) -> Mem {
        Mem {
            segment: 3,
            base: None,
            index: None,
            scale: 0,
            displacement: self.target as i64,
            rip_relative: false,
            address_size,
        }
    }

    fn address(&mut self) -> Mem {
        let size = self.address_size;
        let mut mem = self.absolute(size);
        if size == 2 {
            return self.address_16(mem);
        }
        if self.style == Style::Sequence {
            mem.base = Some(BASE as u8);
            mem.displacement = self.target.wrapping_sub(BASE_VALUE) as i64;
            return mem;
        }
        match self.random.below(12) {
            0 => return mem,
            1 if self.style == Style::Long => {
                mem.rip_relative = true;
                (mem.displacement, mem.address_size) = (0, 8);
                return mem;
            }
            // The stack pointer's value is fixed: the displacement has to do it.
            2 => {
                mem.base = Some(4);
                mem.displacement = self.target.wrapping_sub(self.state.gpr[4]) as i64;
                mem.segment = 2;
                return mem;
            }
            _ => {}
        }
        mem.displacement = match self.random.below(4) {
            0 => 0,
            1 => i64::from(self.random.next() as i8),
            _ => i64::from(self.random.next() as i32),
        };
        let rest = self.target.wrapping_sub(mem.displacement as u64);
        let base = self.free_register();
        match self.free_register() {
            index if index != base && index != 4 && self.random.one_in(2) => {
                (mem.index, mem.scale) = (Some(index), self.random.below(4) as u8);
                let value = self.random.integer();
                self.set_address(index, value, size);
                let part = self.state.gpr[usize::from(index)] << mem.scale;
                self.set_address(base, rest.wrapping_sub(part), size);
                mem.base = Some(base);
            }
            _ => {
                self.set_address(base, rest, size);
                mem.base = Some(base);
            }
        }
        if matches!(mem.base, Some(4 | 5)) {
            mem.segment = 2;
        }
        mem
    }

    /// One of the eight forms, anywhere: the window is beyond its reach.
    fn address_16(&mut self, mem: Mem) -> Mem {
        let forms = [
            (Some(3), Some(6)),
            (Some(3), Some(7)),
            (Some(5), Some(6)),
            (Some(5), Some(7)),
            (Some(6), None),
            (Some(7), None),
            (Some(5), None),
            (Some(3), None),
            (None, None),
        ];
        let (base, index) = self.random.pick(&forms);
        Mem {
            segment: if base == Some(5) { 2 } else { 3 },
            base,
            index,
            displacement: i64::from(self.random.next() as i16),
            ..mem
        }
    }

    /// How many general and vector registers the code sees.
    fn registers(&self) -> u64 {
        if self.style == Style::Legacy { 8 } else { 16 }
    }

    /// A register whose value does not matter yet.
    fn free_register(&mut self) -> u8 {
        loop {
            let n = self.random.below(self.registers()) as u8;
            if self.pinned >> n & 1 == 0 {
                return n;
            }
        }
    }

    /// Sets a register of the address; at 32 bits its upper half is anything.
    fn set_address(&mut self, register: u8, value: u64, size: u8) {
        let upper = if size == 4 {
            self.random.next() << 32
        } else {
            value
        };
        self.state.gpr[usize::from(register)] = value & 0xffff_ffff | upper & !0xffff_ffff;
        self.pinned |= 1 << register;
    }

    /// Gives a general register a value that is to stay.
    pub(crate) fn pin(&mut self, register: usize, value: u64) {
        self.state.gpr[register] = value;
        self.pinned |= 1 << register;
    }

    /// Leaves of the registers what 32-bit code sees.
    fn narrow(&mut self) {
        for (n, register) in self.state.gpr.iter_mut().enumerate() {
            *register = if n < 8 { *register & 0xffff_ffff } else { 0 };
        }
    }

    /// Writes into the window, as far as `address` is in it.
    pub(crate) fn store(&mut self, address: u64, bytes: &[u8]) {
        let at = address.wrapping_sub(WINDOW) as usize;
        if let Some(room) = self
            .memory
            .get_mut(at..)
            .and_then(|rest| rest.get_mut(..bytes.len()))
        {
            room.copy_from_slice(bytes);
        }
    }

    /// An address in the window for `len` bytes: aligned, or not, or across the end of the page.
    pub(crate) fn somewhere(&mut self, len: u64, aligned: bool) -> u64 {
        let room = WINDOW_LEN as u64 - len - 128;
        let at = WINDOW + 64 + self.random.below(room);
        match self.random.below(16) {
            0 if !aligned && len > 1 => PAGE + 0x1000 - 1 - self.random.below(len - 1),
            1..=3 if !aligned => at,
            _ => at & !63,
        }
    }
}

fn encodable(insn: Insn) -> Option<Insn> {
    Case::encode(&insn).map(|_| insn)
}

fn state(random: &mut Random) -> State {
    let mut state = State {
        gpr: std::array::from_fn(|_| random.integer()),
        rflags: 2 | random.next() & 0x8d5 | u64::from(random.one_in(8)) << 10,
        xmm: std::array::from_fn(|_| random.vector()),
        mxcsr: mxcsr(random),
        fpu: fpu(random),
        ..State::default()
    };
    state.gpr[4] = WINDOW + WINDOW_LEN as u64 / 2;
    state
}

/// Rounding, FTZ, DAZ and flags at random; exceptions mostly masked.
fn mxcsr(random: &mut Random) -> u32 {
    let any = random.next() as u32 & 0xffff;
    let masks = if random.one_in(8) { 0 } else { 0x1f80 };
    let plain = if random.one_in(2) { 0x1f80 } else { any };
    plain | masks
}

/// The same for the x87 unit. Flags of exceptions that are not masked are clear: none is pending.
fn fpu(random: &mut Random) -> Fpu {
    let any = random.next();
    let masks = if random.one_in(8) {
        any as u16 & 0x3f
    } else {
        0x3f
    };
    let precision_and_rounding = random.pick(&[0x300, 0x300, any as u16 & 0xf00]);
    let top = (any >> 48) as u8 & 7;
    let condition = (any >> 16) as u16 & 0x4700;
    Fpu {
        registers: std::array::from_fn(|_| random.extended()),
        control: 0x40 | masks | precision_and_rounding,
        status: condition | (any >> 32) as u16 & masks,
        top,
        // Full, with room for one, or anything.
        valid: random.pick(&[
            0xff,
            0xff,
            !(1 << (top.wrapping_sub(1) & 7)),
            (any >> 56) as u8,
        ]),
        ..Fpu::default()
    }
}

fn memory(random: &mut Random) -> [u8; WINDOW_LEN] {
    let mut memory = [0; WINDOW_LEN];
    for chunk in memory.chunks_exact_mut(16) {
        let value = if random.one_in(3) {
            let (significand, exponent) = random.extended();
            u128::from(significand) | u128::from(exponent) << 64
        } else {
            random.vector()
        };
        chunk.copy_from_slice(&value.to_le_bytes());
    }
    memory
}
