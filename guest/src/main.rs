//! The guest's first process: makes a bare kernel a place to run one command in, then serves the launcher.
//!
//! Process 1 must not end, so every path here ends with the power off. What goes wrong before the launcher can be
//! spoken to is said on the kernel's console, which the launcher keeps.
//!
//! With `--agent` it serves a session over its standard input instead and touches nothing else: that is how tests
//! run the very same agent as an ordinary program.
#![forbid(unsafe_code)]

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use std::process::ExitCode;
    if std::env::args_os().nth(1).is_some_and(|it| it == "--agent") {
        return match linux::serve_standard_input() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("init: {error}");
                ExitCode::FAILURE
            }
        };
    }
    if std::process::id() != 1 {
        eprintln!(
            "init: only the kernel starts this; for a session over standard input say --agent"
        );
        return ExitCode::FAILURE;
    }
    linux::first_process()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("init: this is the first process of a Linux guest");
    std::process::exit(1);
}

#[cfg(target_os = "linux")]
mod linux {
    use guest::agent::{self, Farewell};
    use guest::system;
    use hvf_sys::os::boot;
    use hvf_sys::tty;
    use std::fs::File;
    use std::io;
    use std::os::fd::AsFd;

    /// The serial line that the launcher holds the other end of: COM2.
    const LINK: &str = "/dev/ttyS1";

    pub(super) fn serve_standard_input() -> io::Result<()> {
        let link = io::stdin().as_fd().try_clone_to_owned()?;
        agent::serve(File::from(link), Ok(())).map(drop)
    }

    pub(super) fn first_process() -> ! {
        let prepared = system::prepare();
        let served = open_link().and_then(|link| {
            let served = agent::serve(link, prepared.clone());
            served.map_err(|error| format!("the session on {LINK} broke: {error}"))
        });
        let farewell = *served.as_ref().unwrap_or(&Farewell::PowerOff);
        for complaint in [prepared.err(), served.err()].into_iter().flatten() {
            eprintln!("init: {complaint}");
        }
        system::settle();
        let error = match farewell {
            Farewell::PowerOff => boot::power_off(),
            Farewell::Restart => boot::restart(),
        };
        eprintln!("init: cannot end the system: {error}");
        loop {
            std::thread::park();
        }
    }

    fn open_link() -> Result<File, String> {
        let link = File::options().read(true).write(true).open(LINK);
        let link = link.map_err(|error| {
            format!("cannot open {LINK}: {error}; the kernel needs an 8250 driver with two ports")
        })?;
        tty::make_raw(&link).map_err(|error| format!("cannot make {LINK} raw: {error}"))?;
        Ok(link)
    }
}
