//! The model of Hypervisor.framework is for tests: what is released does not know it.

use crate::launcher::Program;

#[test]
fn what_is_released_has_no_model() {
    if std::env::var_os("XLAUNCH_ENGINE").is_some() {
        return println!("skipped: this run is itself one over another engine");
    }
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let finished = xlaunch.run(&["--engine", "hvf-model", "--", "true"]);
    assert_ne!(finished.code(), 0, "{finished}");
    let complaint = finished.complaint();
    assert!(complaint.contains("auto, hvf, kvm or soft"), "{complaint}");
}
