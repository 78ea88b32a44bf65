//! What this host's KVM is worth: a small guest in 64-bit mode, run once for a few milliseconds at most.
//!
//! Some hosts have a /dev/kvm that is nested, or paravirtual: it executes a guest's kernel instruction by instruction
//! in software, and lacks some of them, so that Linux does not boot or crawls. The guest tries those that are known to
//! be missing and repeats a loop, which is timed from outside.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hvf_sys::kvm::{Exit, Regs, Vcpu, Vm};
use hvf_sys::ram::Ram;

use super::{convert, fault, machine, open};
use crate::engine::Refusal;
use crate::engine::alarm::Alarm;
use crate::x86::control::{cr0, cr4, efer, page};
use crate::x86::regs::{self, Segment};
use crate::x86::segment;

/// Rounds of the loop, two instructions each.
const ROUNDS: u32 = 20_000;
/// Rounds a second below which KVM crawls: real processors do ten times as many or more.
const RATE_MIN: u64 = 100_000_000;
/// When the guest is stopped in any case.
const PATIENCE: Duration = Duration::from_millis(30);

const MEMORY: u64 = 0x1_0000;
const PML4: u64 = 0x1000;
const PDPT: u64 = 0x2000;
const DIRECTORY: u64 = 0x3000;
const CODE: u64 = 0x4000;
/// Where the guest says how far it has come.
const STEP: u16 = 0x80;
/// How often the loop is repeated.
const LOOPS: u32 = 5;

/// CMPXCHG16B; XSAVE and XRSTOR, where CPUID tells of them; then five times the loop. Data is at 0x5000 and 0x6000.
const GUEST: [u8; 106] = *b"\
    \xbe\x00\x50\x00\x00\
    \x31\xc0\
    \x31\xd2\
    \xbb\x01\x00\x00\x00\
    \xb9\x02\x00\x00\x00\
    \xf0\x48\x0f\xc7\x0e\
    \x75\x4e\
    \xb0\x01\
    \xe6\x80\
    \xb8\x01\x00\x00\x00\
    \x0f\xa2\
    \x0f\xba\xe1\x1a\
    \x73\x22\
    \x0f\x20\xe0\
    \x0d\x00\x06\x04\x00\
    \x0f\x22\xe0\
    \x31\xc9\
    \x31\xd2\
    \xb8\x03\x00\x00\x00\
    \x0f\x01\xd1\
    \xbf\x00\x60\x00\x00\
    \x0f\xae\x27\
    \x0f\xae\x2f\
    \xb0\x02\
    \xe6\x80\
    \xbb\x05\x00\x00\x00\
    \xb9\x20\x4e\x00\x00\
    \xff\xc9\
    \x75\xfc\
    \xb0\x03\
    \xe6\x80\
    \xff\xcb\
    \x75\xef\
    \xf4\
    \x0f\x0b";

/// What the probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It runs guests.
    Runs {
        /// Rounds of a loop of two instructions that it does in a second.
        rate: u64,
        /// How long the probe took.
        took: Duration,
    },
    /// It is there, but not for us, or lacks something, as the sentence says.
    Refuses(Refusal),
    /// It cannot execute what every kernel has, as the sentence says.
    Fails(String),
    /// It executes too slowly: at most so many rounds in a second.
    Crawls(u64),
}

/// Runs the guest.
pub fn probe() -> Finding {
    let started = Instant::now();
    match try_probe() {
        Ok(Ended::Halted { best }) => {
            let nanos = best.as_nanos().max(1) as u64;
            match u64::from(ROUNDS) * 1_000_000_000 / nanos {
                rate @ RATE_MIN.. => Finding::Runs {
                    rate,
                    took: started.elapsed(),
                },
                rate => Finding::Crawls(rate),
            }
        }
        Ok(Ended::Late) => {
            let loops = u64::from(LOOPS * ROUNDS);
            Finding::Crawls(loops * 1000 / PATIENCE.as_millis() as u64)
        }
        Ok(Ended::Failed(sentence)) => Finding::Fails(sentence),
        Err(refusal) => Finding::Refuses(refusal),
    }
}

/// How the guest ended.
enum Ended {
    /// All done; the fastest of the loops.
    Halted {
        best: Duration,
    },
    Late,
    Failed(String),
}

fn try_probe() -> Result<Ended, Refusal> {
    let system = open()?;
    let ram = memory().map_err(|error| super::failed("memory for a probe", &error))?;
    let vm = Arc::new(machine(&system, ram)?);
    let offered = system.supported_cpuid();
    let offered = offered.map_err(|error| super::failed("KVM_GET_SUPPORTED_CPUID", &error))?;
    let mut vcpu = start(&vm).map_err(|error| super::failed("KVM_CREATE_VCPU", &error))?;
    vcpu.set_cpuid(&offered)
        .map_err(|error| super::failed("KVM_SET_CPUID2", &error))?;
    set_registers(&mut vcpu).map_err(|error| super::failed("KVM_SET_SREGS", &error))?;
    let kick = vcpu.kick();
    let alarm = Alarm::start().map_err(|error| super::failed("a thread for a probe", &error))?;
    let bell = alarm.bell(move || kick.kick());
    let end = Instant::now() + PATIENCE;
    bell.set(Some(end));
    Ok(run(&mut vcpu, end))
}

fn start(vm: &Arc<Vm>) -> std::io::Result<Vcpu> {
    vm.create_vcpu(0)
}

fn run(vcpu: &mut Vcpu, end: Instant) -> Ended {
    let mut began = Instant::now();
    let mut best = Duration::MAX;
    let mut step = 0;
    loop {
        match vcpu.run() {
            Ok(Exit::PortOut { port: STEP, .. }) => {
                step = vcpu.port_data(0) & 0xff;
                if step == 3 {
                    best = best.min(began.elapsed());
                }
                began = Instant::now();
            }
            Ok(Exit::Halt) if step == 3 => return Ended::Halted { best },
            // Somebody else's signal.
            Ok(Exit::Interrupted) if Instant::now() < end => {}
            Ok(Exit::Interrupted) => return Ended::Late,
            Ok(Exit::InternalError {
                suberror,
                instruction,
            }) => {
                let what = fault::short(vcpu, suberror, &instruction);
                return Ended::Failed(format!("{what}, at {}", named(step)));
            }
            Ok(exit) => return Ended::Failed(told(vcpu, step, &exit)),
            Err(error) => {
                return Ended::Failed(format!("KVM_RUN failed after step {step}: {error}"));
            }
        }
    }
}

/// What comes of an instruction that raises an exception, since the guest has no handlers, is a triple fault.
fn told(vcpu: &Vcpu, step: u32, exit: &Exit) -> String {
    let at = vcpu.regs().map_or(0, |regs| regs.rip);
    format!(
        "a small guest ended with {exit:?} at {at:#x}, at {}",
        named(step)
    )
}

/// What the guest does after this step.
fn named(step: u32) -> &'static str {
    match step {
        0 => "CMPXCHG16B",
        1 => "XSAVE or XRSTOR",
        _ => "a loop",
    }
}

/// The guest in its memory, the first 2 MiB mapped to themselves.
fn memory() -> std::io::Result<Arc<Ram>> {
    let ram = Ram::new(&[(0, MEMORY)])?;
    let entry = page::P | page::RW;
    let tables = [
        (PML4, PDPT | entry),
        (PDPT, DIRECTORY | entry),
        (DIRECTORY, entry | page::PS),
    ];
    let stored = tables.map(|(at, value)| ram.store_u64(at, value));
    let written = ram.write(CODE, &GUEST);
    assert!(
        written.is_ok() && stored.iter().all(Result::is_ok),
        "it is larger than that"
    );
    Ok(ram)
}

/// 64-bit mode, as a kernel has it, without tables of descriptors.
fn registers() -> regs::Regs {
    let mut regs = regs::Regs::power_on(0);
    let code = segment::S | segment::CODE | segment::READABLE | segment::ACCESSED;
    let data = segment::S | segment::WRITABLE | segment::ACCESSED;
    let flat = |selector, rights| Segment {
        selector,
        base: 0,
        limit: u32::MAX,
        rights: rights | segment::P | segment::G,
    };
    regs.cs = flat(8, code | segment::L);
    let data = flat(16, data | segment::DB);
    (regs.ss, regs.ds, regs.es, regs.fs, regs.gs) = (data, data, data, data, data);
    regs.rip = CODE;
    regs.cr0 = cr0::PE | cr0::ET | cr0::NE | cr0::PG;
    regs.cr3 = PML4;
    regs.cr4 = cr4::PAE;
    regs.efer = efer::LME | efer::LMA;
    regs
}

fn set_registers(vcpu: &mut Vcpu) -> std::io::Result<()> {
    let mut system = vcpu.sregs()?;
    let general: Regs = convert::to_kvm(&registers(), &mut system);
    vcpu.set_sregs(&system)?;
    vcpu.set_regs(&general)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::{Nanos, Width};
    use crate::cpu::io::Io;
    use crate::engine::soft::Soft;
    use crate::engine::{self, Engine};

    /// Hears the guest's steps.
    struct Steps(Vec<u32>);

    impl Io for Steps {
        fn port_write(&mut self, port: u16, width: Width, value: u32) {
            assert_eq!((port, width), (STEP, Width::Byte));
            self.0.push(value);
        }
        fn port_read(&mut self, _: u16, _: Width) -> u32 {
            unreachable!()
        }
        fn mmio_read(&mut self, _: u64, _: Width) -> u64 {
            unreachable!()
        }
        fn mmio_write(&mut self, _: u64, _: Width, _: u64) {
            unreachable!()
        }
        fn msr_read(&mut self, _: u32) -> Option<u64> {
            Some(0)
        }
        fn msr_write(&mut self, _: u32, _: u64) -> Option<()> {
            None
        }
        fn cr8(&mut self) -> u64 {
            0
        }
        fn set_cr8(&mut self, _: u64) {}
        fn now(&mut self) -> Nanos {
            Nanos(0)
        }
    }

    /// So a KVM that does not run it lacks something.
    #[test]
    fn the_guest_runs_on_the_software_cpu() {
        let ram = memory().unwrap();
        let mut vcpu = Soft::new(ram, 1).vcpu(0).unwrap();
        vcpu.set_regs(&registers());
        let mut steps = Steps(Vec::new());
        assert_eq!(vcpu.run(&mut steps, None), engine::Exit::Halt);
        assert_eq!(steps.0, [1, 2, 3, 3, 3, 3, 3]);
        assert_eq!(vcpu.regs().rip, CODE + GUEST.len() as u64 - 2);
    }

    #[test]
    fn the_probe_comes_to_a_finding_soon() {
        match probe() {
            Finding::Refuses(why) => println!("skipped: {why}"),
            Finding::Runs { rate, .. } => assert!(rate >= RATE_MIN),
            Finding::Crawls(rate) => assert!(rate < RATE_MIN),
            Finding::Fails(why) => assert!(!why.is_empty()),
        }
    }
}
