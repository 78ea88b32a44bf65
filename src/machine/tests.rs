//! Machines with a few bytes of program, from start to end.

mod bench;
mod clocks;
mod firmware;
mod storm;
mod wiring;

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::*;
use crate::backend::console::{Output, serial_line};
use crate::bus::map::Space;
use crate::engine::soft::Soft;
use crate::engine::{self, Refusal, Vcpu};
use crate::firmware::acpi;
use crate::layout::port;
use crate::spec::{CpuCount, Disk, DiskAccess, Drive, Engine, Image, MachineSpec, MemorySize, Net};

/// `mov ax, 0x3400; mov dx, 0x404; out dx, ax`: SLP_EN with the type of S5.
const POWER_OFF: &[u8] = b"\x66\xb8\x00\x34\x66\xba\x04\x04\x66\xef";
/// `mov al, 6; mov dx, 0xcf9; out dx, al`.
const RESET: &[u8] = b"\xb0\x06\x66\xba\xf9\x0c\xee";
/// `hlt; jmp back`, with interrupts off.
const HALT: &[u8] = b"\xf4\xeb\xfd";
/// `jmp here`.
const SPIN: &[u8] = b"\xeb\xfe";
/// `lidt [zeros]; ud2; zeros`.
const TRIPLE_FAULT: &[u8] = b"\x0f\x01\x1d\x02\x00\x00\x00\x0f\x0b\0\0\0\0\0\0\0\0\0\0";
/// `mov dx, 0x3f8; mov al, 'A'; out dx, al`.
const HELLO: &[u8] = b"\x66\xba\xf8\x03\xb0\x41\xee";

/// Switches ACPI on, enables the power button's event, sends 'A', looks for the event in PM1's status 2^24 times, and
/// sends 'B' if it has come.
const AWAIT_BUTTON: &[u8] = b"\xb0\xa0\xe6\xb2\
    \x66\xba\x02\x04\x66\xb8\x00\x01\x66\xef\
    \x66\xba\xf8\x03\xb0\x41\xee\
    \x66\xba\x00\x04\xb9\x00\x00\x00\x01\
    \x66\xed\xf6\xc4\x01\xe1\xf9\
    \x80\xe4\x01\xb0\x41\x00\xe0\
    \x66\xba\xf8\x03\xee";

/// Writes a real-mode program that sends 'B' and halts to 0x8000, and starts CPU 1 there by INIT and start-up.
const START_AP: &[u8] = b"\x48\xb8\xba\xf8\x03\xb0\x42\xee\xf4\xeb\
    \x48\xa3\x00\x80\0\0\0\0\0\0\
    \xc6\x04\x25\x08\x80\x00\x00\xfd\
    \xbb\x00\x03\xe0\xfe\
    \xc7\x43\x10\x00\x00\x00\x01\
    \xc7\x03\x00\x45\x00\x00\
    \xc7\x03\x08\x46\x00\x00";

/// A bzImage (boot.rst) whose 64-bit entry is `code`, at 16 MiB.
fn bzimage(code: &[&[u8]]) -> Vec<u8> {
    let code = code.concat();
    let mut file = vec![0; 1024 + 0x200];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    let payload = (0x200 + code.len()).next_multiple_of(16);
    put(0x1f1, &[1]);
    put(0x1f4, &(payload as u32 / 16).to_le_bytes());
    put(0x1fe, &[0x55, 0xaa, 0xeb, 0x6a]);
    put(0x202, b"HdrS\x0f\x02");
    put(0x211, &[1]);
    put(0x22c, &0x7fff_ffff_u32.to_le_bytes());
    put(0x230, &0x20_0000_u32.to_le_bytes());
    put(0x236, &[3]);
    put(0x238, &2047_u32.to_le_bytes());
    put(0x258, &0x100_0000_u64.to_le_bytes());
    put(0x260, &0x10_0000_u32.to_le_bytes());
    file.extend(code);
    file.resize(1024 + payload, 0);
    file
}

fn spec(cpus: u8, code: &[&[u8]]) -> MachineSpec {
    MachineSpec {
        memory: MemorySize::new(32 << 20).unwrap(),
        cpus: CpuCount::new(cpus).unwrap(),
        engine: Engine::Soft,
        kernel: Image::Bundled(bzimage(code).leak()),
        initrd: None,
        modules: Vec::new(),
        cmdline: String::new(),
        disks: Vec::new(),
        drives: Vec::new(),
        net: Net::default(),
        pci_uart: false,
    }
}

fn start(spec: &MachineSpec) -> (Machine, Output) {
    let (com1, output, _) = serial_line();
    let cables = Cables {
        com1,
        ..Cables::unplugged()
    };
    (build(spec, cables).unwrap(), output)
}

fn refused(spec: &MachineSpec) -> String {
    build(spec, Cables::unplugged())
        .map(drop)
        .unwrap_err()
        .to_string()
}

#[test]
#[cfg(not(all(target_os = "macos", feature = "vmnet")))]
fn vmnet_is_refused_where_it_is_not() {
    let spec = MachineSpec {
        net: Net::Vmnet,
        ..spec(1, &[HALT])
    };
    let complaint = refused(&spec);
    let (start, end) = ("cannot plug the guest into vmnet: ", "; use --net user");
    assert!(
        complaint.starts_with(start) && complaint.ends_with(end),
        "{complaint}"
    );
}

#[test]
fn a_guest_powers_it_off() {
    let (machine, _) = start(&spec(2, &[POWER_OFF, HALT]));
    assert_eq!(machine.wait(), Outcome::PoweredOff);
    // HLT may or may not have been reached when the machine stopped.
    assert!((3..=4).contains(&machine.retired()));
}

#[test]
fn a_guest_resets_it_and_it_starts_again_in_place() {
    let (machine, mut output) = start(&spec(2, &[HELLO, RESET, HALT]));
    for _ in 0..50 {
        assert_eq!(machine.wait(), Outcome::Reset);
        machine.restart().unwrap();
    }
    assert_eq!(machine.wait(), Outcome::Reset);
    drop(machine);
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert_eq!(text, "A".repeat(51));
}

#[test]
fn its_power_button_is_heard_by_the_guest_and_by_nobody_is_off() {
    let (machine, mut output) = start(&spec(1, &[AWAIT_BUTTON, POWER_OFF, HALT]));
    let mut byte = [0];
    output.read_exact(&mut byte).unwrap();
    machine.press_power_button();
    output.read_exact(&mut byte).unwrap();
    assert_eq!((byte, machine.wait()), (*b"B", Outcome::PoweredOff));

    let (machine, mut output) = start(&spec(1, &[HELLO, SPIN]));
    output.read_exact(&mut byte).unwrap();
    machine.press_power_button();
    assert_eq!(machine.wait(), Outcome::PoweredOff);
}

#[test]
fn a_triple_fault_tells_where() {
    let (machine, _) = start(&spec(2, &[TRIPLE_FAULT]));
    let Outcome::TripleFault(detail) = machine.wait() else {
        panic!("no triple fault: {:?}", machine.wait());
    };
    assert!(detail.starts_with("CPU 0 at 0x10:0x1000207,"), "{detail}");
}

#[test]
fn it_can_be_stopped_whatever_it_does() {
    for (cpus, code) in [(1, HALT), (2, SPIN), (2, HALT)] {
        let (machine, _) = start(&spec(cpus, &[code]));
        thread::sleep(Duration::from_millis(5));
        machine.stop();
        assert_eq!(machine.wait(), Outcome::Stopped);
        machine.restart().unwrap();
        machine.stop();
        assert_eq!(machine.wait(), Outcome::Stopped);
    }
}

#[test]
fn dropping_it_ends_a_running_one() {
    let (machine, mut output) = start(&spec(2, &[HELLO, SPIN]));
    let mut byte = [0];
    output.read_exact(&mut byte).unwrap();
    drop(machine);
    assert_eq!((byte, output.read(&mut byte).unwrap()), (*b"A", 0));
}

#[test]
fn the_second_cpu_starts_when_told() {
    let (machine, mut output) = start(&spec(2, &[START_AP, HALT]));
    let mut byte = [0];
    output.read_exact(&mut byte).unwrap();
    assert_eq!(byte, *b"B");
    machine.stop();
    assert_eq!(machine.wait(), Outcome::Stopped);
}

#[test]
fn the_most_of_everything_fits() {
    let disk = tempfile::NamedTempFile::new().unwrap();
    disk.as_file().set_len(1 << 20).unwrap();
    let mut spec = spec(64, &[POWER_OFF, HALT]);
    let path = disk.path().to_owned();
    let access = DiskAccess::ThrowAway;
    spec.disks = vec![Disk { path, access }; build::DISKS];
    let drive = Drive::Disk(spec.disks[0].clone());
    spec.drives = vec![drive.clone(), drive.clone(), drive.clone(), Drive::Cd(None)];
    spec.drives
        .push(Drive::Cd(Some(spec.disks[0].path.clone())));
    spec.drives.push(drive.clone());
    let (machine, _) = start(&spec);
    assert_eq!(machine.wait(), Outcome::PoweredOff);
    spec.disks.push(spec.disks[0].clone());
    assert_eq!(
        refused(&spec),
        "cannot attach 18 disks: the machine has room for 17; name fewer"
    );
    spec.disks.clear();
    spec.drives.push(drive);
    assert_eq!(
        refused(&spec),
        "cannot attach 7 drives: the AHCI controller has 6 ports; name fewer"
    );
}

#[test]
fn what_is_missing_is_told_before_anything_starts() {
    let mut missing = spec(1, &[HALT]);
    missing.kernel = Image::File(PathBuf::from("/nonexistent/vmlinuz"));
    assert!(refused(&missing).contains("/nonexistent/vmlinuz"));
    missing = spec(1, &[HALT]);
    missing.disks = vec![Disk {
        path: PathBuf::from("/nonexistent/disk"),
        access: DiskAccess::Keep,
    }];
    assert!(refused(&missing).contains("/nonexistent/disk"));
}

/// The software CPU, whose second CPU cannot be made.
struct OneCpu(Soft);

impl engine::Engine for OneCpu {
    fn name(&self) -> &'static str {
        "none"
    }

    fn vcpu(&self, index: u8) -> Result<Box<dyn Vcpu>, Refusal> {
        match index {
            0 => self.0.vcpu(index),
            _ => Err(Refusal("the host has one CPU".to_owned())),
        }
    }
}

#[test]
fn a_cpu_that_cannot_be_made_ends_every_round_with_the_reason() {
    let machine = build::build_on(&spec(2, &[SPIN]), Cables::unplugged(), |ram| {
        Ok(Arc::new(OneCpu(Soft::new(ram.clone(), 2))))
    });
    let machine = machine.unwrap();
    for _ in 0..2 {
        let reason = Outcome::HostFailure("the host has one CPU".to_owned());
        assert_eq!(machine.wait(), reason);
        machine.restart().unwrap();
    }
}
