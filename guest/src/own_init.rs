//! The image's own init, in place of ours.

use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// The word on the kernel's command line that asks for it.
const WORD: &str = "xlaunch.init";
/// Where images have it; the kernel itself looks in most of these places (init/main.c, kernel_init).
const PLACES: [&str; 6] = [
    "/sbin/init",
    "/usr/sbin/init",
    "/lib/systemd/systemd",
    "/usr/lib/systemd/systemd",
    "/etc/init",
    "/bin/init",
];
/// What it finds in its environment, as from the kernel.
const ENVIRONMENT: [(&str, &str); 3] = [
    ("HOME", "/"),
    ("TERM", "linux"),
    (
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ),
];

/// Whether the kernel's command line asks for the image's own init.
pub fn is_wanted(cmdline: &str) -> bool {
    cmdline.split_ascii_whitespace().any(|word| word == WORD)
}

/// Becomes the image's init, whose root is the calling process's. Comes back only with the sentence why not.
pub fn become_it() -> String {
    for place in PLACES.map(Path::new) {
        let mut init = Command::new(place);
        init.arg0("init").env_clear().envs(ENVIRONMENT);
        let error = init.exec();
        if error.kind() != ErrorKind::NotFound {
            return format!("cannot run the image's init {place:?}: {error}");
        }
    }
    format!(
        "the image has no init ({}); leave --init out, or give a command behind --",
        PLACES.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_wanted_by_its_word_alone() {
        assert!(is_wanted("quiet xlaunch.init panic=-1\n"));
        assert!(!is_wanted(
            "init=/bin/sh xlaunch.initial xlaunch.root=/dev/vda"
        ));
    }
}
