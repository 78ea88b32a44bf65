//! What went wrong in machines like this one, and the tests that would catch it here. The numbers are those of the
//! project's list of defects in xhyve; each has at least one test, and each test named here exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Defect, what it means, file, name of the test.
type Row = (u8, &'static str, &'static str, &'static str);

#[rustfmt::skip]
const TESTS: &[Row] = &[
    (1, "a wake-up between a CPU's last look and its sleep is lost", "src/engine/park_tests.rs", "no_wake_up_between_look_and_sleep_is_lost"),
    (1, "the same with the LAPIC around it", "src/engine/run_tests.rs", "no_wake_up_of_a_halted_cpu_is_lost"),
    (2, "a kick that finds the CPU just outside its run is lost", "src/engine/run_tests.rs", "no_kick_of_a_spinning_cpu_is_lost"),
    (2, "the same with CPUs that kick each other", "src/engine/run_tests.rs", "two_cpus_play_tennis"),
    (3, "a triple fault kills the launcher", "src/machine/tests.rs", "a_triple_fault_tells_where"),
    (3, "and has no exit code of its own", "tests/boot/endings.rs", "a_triple_fault_is_123_and_says_so"),
    (4, "LMSW and CLTS are not carried out", "src/cpu/tests/long.rs", "lmsw_and_clts_change_the_low_bits_of_cr0_only"),
    (4, "PAE's four pointers are not loaded", "src/cpu/tests/paging.rs", "pae_refuses_reserved_bits_in_its_four_pointers"),
    (4, "paging of 32-bit kernels is broken", "src/cpu/tests/paging.rs", "paging_of_32_bit_kernels"),
    (5, "INIT and start-up only work once, from the first CPU, to one", "src/engine/run_tests.rs", "any_cpu_starts_any_other_and_one_command_starts_all"),
    (5, "a started CPU cannot be started again", "src/engine/run_tests.rs", "init_and_start_up_start_and_restart_an_ap"),
    (6, "a port accessed in another width kills the launcher", "src/machine/tests/storm.rs", "every_port_takes_every_width"),
    (6, "an access of an odd width or place kills the launcher", "src/machine/tests/storm.rs", "anything_leaves_a_machine_that_answers"),
    (6, "an x2APIC register that is not there kills the launcher", "src/chipset/lapic/tests.rs", "nothing_a_guest_does_panics"),
    (7, "the time that a guest sets does not stay set", "src/chipset/rtc/tests.rs", "a_set_time_stays_set_and_runs"),
    (8, "_PRT and MP table disagree with the wires", "src/machine/tests/wiring.rs", "interrupts_arrive_at_the_pins_that_the_tables_name"),
    (8, "the same for the 8259 pair", "src/machine/tests/wiring.rs", "interrupts_arrive_at_the_8259_inputs_that_the_links_name"),
    (8, "and ACPICA reads other routes", "tests/tables/acpiexec.rs", "the_routing_table_for_io_apics_names_the_pins_of_the_layout"),
    (9, "the window for 64-bit BARs is cut to 32 bits", "src/firmware/acpi/tests.rs", "the_host_bridge_passes_on_the_windows_of_the_layout"),
    (9, "and as ACPICA reads it", "tests/tables/acpiexec.rs", "what_devices_claim_is_what_the_machine_has"),
    (10, "an MSI-X vector raised while masked is lost", "src/pci/msix.rs", "what_is_masked_stays_pending_and_goes_out_later"),
    (10, "a new address or data of MSI does not count", "src/pci/msi.rs", "address_and_data_count_from_their_write_whatever_its_width"),
    (10, "the same for MSI-X", "src/pci/msix.rs", "an_entry_counts_from_its_write_by_dwords_and_by_qwords"),
    (10, "a byte written to MSI's control word does nothing", "src/pci/msi.rs", "a_byte_write_to_the_control_word_enables"),
    (11, "a write behind the end of the disk makes the image grow", "src/backend/disk/tests.rs", "nothing_behind_the_end_is_reached"),
    (11, "and virtio-blk lets it through", "src/virtio/tests/blk.rs", "nothing_outside_the_disk_or_the_memory_is_touched"),
    (11, "short reads count as success", "src/backend/disk/tests.rs", "an_image_that_shrinks_gives_errors"),
    (11, "the guest is not told that a disk is read-only", "src/virtio/tests/blk.rs", "a_read_only_disk_says_so"),
    (12, "a request without header or status kills the launcher", "src/virtio/tests/blk.rs", "requests_without_header_or_status_return"),
    (12, "a request offered twice while in flight corrupts", "src/virtio/tests/hostile.rs", "one_head_offered_twice_is_served_twice"),
    (12, "a reset does not wait for what is in flight", "src/virtio/tests/blk.rs", "a_reset_waits_for_what_is_in_flight"),
    (13, "addresses outside memory are not checked", "src/virtio/tests/hostile.rs", "any_ring_at_all"),
    (13, "descriptors are read twice", "src/virtio/tests/hostile.rs", "a_guest_that_changes_its_descriptors_meanwhile"),
    (13, "queues are served before the driver is ready", "src/virtio/tests/transport.rs", "nothing_is_read_before_the_function_may_access_memory"),
    (14, "the random device trusts the chain and writes where it must not", "src/virtio/tests/rnd.rs", "requests_are_capped_and_what_cannot_be_written_is_not"),
    (14, "what its configuration has not is called", "src/virtio/tests/hostile.rs", "any_access_to_the_registers"),
    (15, "a frame that is too long for the driver's buffers kills the launcher", "src/virtio/tests/net.rs", "a_buffer_that_is_too_small_stays_for_a_frame_that_fits"),
    (15, "and so does one that is too long for the network", "src/virtio/tests/net.rs", "frames_that_break_a_rule_are_dropped_and_counted"),
    (15, "a reset waits for the device's own thread, which waits for the reset", "src/virtio/tests/net.rs", "after_a_reset_nothing_is_written_and_what_waits_comes_later"),
    (16, "queued TRIM always aborts", "src/ahci/tests/disk.rs", "trimmed_sectors_read_as_zeros_by_either_command"),
    (16, "a short list of ranges leaves the rest to chance", "src/ahci/tests/disk.rs", "a_wrong_trim_touches_nothing"),
    (16, "commands are read again while in flight", "src/ahci/tests/hostile.rs", "a_guest_that_rewrites_its_commands_meanwhile_does_no_harm"),
    (16, "an ATAPI read of no sectors does not end in order", "src/ahci/tests/cd.rs", "a_disc_is_told_and_read"),
    (17, "the UUID is written over its neighbours", "src/firmware/smbios.rs", "the_uuid_is_stored_with_its_first_groups_reversed"),
    (17, "SMBIOS structures tell wrong lengths and handles", "tests/tables/dmidecode.rs", "dmidecode_reads_every_machine_without_complaint"),
    (17, "and the UUID overwrites what stands behind it", "tests/tables/dmidecode.rs", "the_uuid_is_one_and_leaves_its_neighbours_alone"),
    (18, "output goes to the wrong descriptor", "tests/boot/endings.rs", "the_commands_code_and_its_two_streams_come_out_apart_and_byte_exact"),
    (18, "the end of the input is read again and again", "src/sandbox/streams_tests.rs", "the_end_of_an_input_is_told_once"),
    (18, "the terminal is not restored", "tests/boot/terminal.rs", "a_terminal_is_restored_when_we_are_told_to_end"),
    (19, "a count of zero never starts", "src/chipset/pit/tests.rs", "zero_is_the_largest_count"),
    (19, "reading one byte of a count kills the launcher", "src/chipset/pit/tests.rs", "single_bytes_leave_the_other_zero"),
    (19, "a comparator set to the past waits for the next round", "src/chipset/hpet/tests.rs", "a_value_just_passed_matches_at_once"),
    (20, "IN of 8 and 16 bits clears the rest of the register", "src/cpu/tests/basics.rs", "input_changes_no_more_of_the_register_than_its_width"),
    (21, "two CPUs that start at once are mixed up", "src/engine/run_tests.rs", "any_cpu_starts_any_other_and_one_command_starts_all"),
    (21, "the same with Linux", "tests/boot/cpus.rs", "all_cpus_are_listed_and_run"),
    (22, "a host that does not tell its frequencies is refused", "tests/defects.rs", "no_frequency_is_demanded_of_the_host"),
    (23, "CPUID tells the host's clocks", "src/x86/cpuid/tests.rs", "the_two_leaves_of_clocks_agree"),
    (23, "CPUID offers what is not there", "src/x86/cpuid/tests.rs", "nothing_is_offered_that_needs_what_is_not"),
    (23, "the guest's clocks are wrong", "tests/boot/kernel.rs", "the_guests_clocks_run_at_the_hosts_pace"),
    (24, "an initrd lies over the kernel", "src/boot/tests.rs", "an_initrd_never_overlaps_anything"),
    (24, "an initrd or a command line that is too large underflows", "src/boot/tests.rs", "what_is_too_large_is_said_in_one_sentence"),
    (24, "a short image is loaded", "src/boot/bzimage/tests.rs", "every_shorter_file_is_refused"),
    (24, "the zero page names no RSDP", "src/boot/zero_page.rs", "fields_stand_where_the_protocol_has_them"),
    (25, "processors are not in the namespace", "src/firmware/acpi/tests.rs", "every_cpu_is_a_device_in_the_namespace"),
    (26, "each change of a redirection entry stops all CPUs", "src/chipset/hub.rs", "changing_entries_disturbs_no_processor"),
    (27, "a region that moves while it is in use kills the launcher", "src/pci/root.rs", "a_bar_may_move_while_it_is_in_use"),
    (28, "deadlines are lost or doubled between threads", "src/bus/timers.rs", "no_deadline_is_lost_or_doubled_between_threads"),
    (28, "timers drift apart", "src/machine/tests/clocks.rs", "all_clocks_agree_to_the_tick_for_a_minute"),
    (29, "a PCI interrupt shares that of an ISA device", "src/layout.rs", "no_pirq_wire_can_share_the_interrupt_of_an_isa_device"),
];

fn read(path: &str) -> Option<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).ok()
}

/// Whether `text` has a test of this name that is run: directly under `#[test]`, or with attributes in between.
fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let head = format!("fn {name}(");
    let is_attribute = |line: &&&str| line.starts_with("#[");
    lines.iter().enumerate().any(|(at, line)| {
        let mut above = lines[..at].iter().rev().take_while(is_attribute);
        line.starts_with(&head) && above.any(|line| *line == "#[test]")
    })
}

#[test]
fn every_defect_has_its_tests() {
    let covered: BTreeSet<u8> = TESTS.iter().map(|row| row.0).collect();
    assert_eq!(covered, (1..=29).collect());
    assert!(TESTS.is_sorted_by_key(|row| row.0));
}

#[test]
fn every_test_that_is_named_exists() {
    let mut texts = BTreeMap::new();
    for (defect, meaning, path, name) in TESTS {
        let text = texts.entry(path).or_insert_with(|| read(path));
        let Some(text) = text else {
            panic!("D{defect} ({meaning}): there is no {path}");
        };
        assert!(
            has_test(text, name),
            "D{defect} ({meaning}): no test {name} in {path}"
        );
    }
}

#[test]
fn a_function_that_is_no_test_is_none() {
    let text =
        "#[test]\n#[cfg(unix)]\nfn a() {}\nfn b() {}\n// #[test]\nfn c() {}\n#[test]\nfn dd() {}";
    let found = ["a", "b", "c", "d", "dd"].map(|name| has_test(text, name));
    assert_eq!(found, [true, false, false, false, true]);
}

/// Frequencies are our own constants: a host that keeps its own to itself (a virtual machine, a newer macOS) is as
/// good as any. One place asks, and takes no answer too: the TSC that a guest on a Mac's processor sees is the host's.
#[test]
fn no_frequency_is_demanded_of_the_host() {
    const OPTIONAL: &str = "pub fn tsc_hz() -> Option<u64>";
    fn scan(dir: &Path) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                scan(&path);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                if path.ends_with("hvf-sys/src/hvf/time.rs") {
                    assert!(text.contains(OPTIONAL), "{}", path.display());
                    continue;
                }
                for word in ["busfrequency", "tsc.frequency", "cpufrequency", "cpu_khz"] {
                    assert!(!text.contains(word), "{word} in {}", path.display());
                }
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    ["src", "hvf-sys/src"]
        .iter()
        .for_each(|dir| scan(&root.join(dir)));
}
