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
    use guest::clock;
    use guest::link::port;
    use guest::network::{self, Link};
    use guest::own_init;
    use guest::share;
    use guest::system;
    use hvf_sys::os::boot;
    use hvf_sys::tty;
    use std::fs::File;
    use std::io;
    use std::os::fd::{AsFd, OwnedFd};

    /// The serial line that the launcher holds the other end of: COM2.
    const SERIAL: &str = "/dev/ttyS1";

    pub(super) fn serve_standard_input() -> io::Result<()> {
        let link = io::stdin().as_fd().try_clone_to_owned()?;
        agent::serve(File::from(link), Ok(())).map(drop)
    }

    pub(super) fn first_process() -> ! {
        clock::begin();
        let prepared = system::prepare();
        let cmdline = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
        let link = Link::take().unwrap_or_else(|complaint| {
            eprintln!("init: {complaint}");
            None
        });
        let prepared = prepared.and_then(|()| mount_folders(link.as_ref(), &cmdline));
        if own_init::is_wanted(&cmdline) {
            // Nobody but the console hears of it: such a guest speaks no protocol.
            let complaint = prepared.err().unwrap_or_else(own_init::become_it);
            eprintln!("init: {complaint}");
            end(Farewell::PowerOff);
        }
        // A command that needs the network will say so itself.
        if let Err(complaint) = network::configure(&cmdline) {
            eprintln!("init: {complaint}");
        }
        let served = open_session(link.as_ref()).and_then(|session| {
            let served = agent::serve(session, prepared.clone());
            served.map_err(|error| format!("the session with the launcher broke: {error}"))
        });
        let farewell = *served.as_ref().unwrap_or(&Farewell::PowerOff);
        for complaint in [prepared.err(), served.err()].into_iter().flatten() {
            eprintln!("init: {complaint}");
        }
        end(farewell)
    }

    fn mount_folders(link: Option<&Link>, cmdline: &str) -> Result<(), String> {
        let connect = |port| match link {
            Some(link) => link.connect(port).map(OwnedFd::from),
            None => Err(io::Error::other(
                "there is no link; the kernel needs a virtio-net driver, built in",
            )),
        };
        share::mount_folders(connect, cmdline)
    }

    fn end(farewell: Farewell) -> ! {
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

    /// What the session goes over: the link, or where there is none the serial line.
    fn open_session(link: Option<&Link>) -> Result<File, String> {
        let Some(link) = link else {
            return open_serial();
        };
        match link.connect(port::SESSION) {
            Ok(stream) => Ok(File::from(OwnedFd::from(stream))),
            Err(error) => {
                eprintln!("init: cannot reach the launcher over the link: {error}");
                open_serial()
            }
        }
    }

    fn open_serial() -> Result<File, String> {
        let line = File::options().read(true).write(true).open(SERIAL);
        let line = line.map_err(|error| {
            format!("cannot open {SERIAL}: {error}; the kernel needs an 8250 driver with two ports")
        })?;
        tty::make_raw(&line).map_err(|error| format!("cannot make {SERIAL} raw: {error}"))?;
        Ok(line)
    }
}
