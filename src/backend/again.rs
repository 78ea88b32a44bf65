//! The tests' own program, for those that start it once more.

use std::env;
use std::ffi::OsString;

/// The program's name, behind that of what runs it where the host does not itself (`scripts/cross --run`).
pub(crate) fn words() -> Vec<OsString> {
    let program = env::current_exe().unwrap().into_os_string();
    let runner = env::var_os("XLAUNCH_TEST_RUNNER");
    runner.into_iter().chain([program]).collect()
}
