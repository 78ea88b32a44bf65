//! The firmware's tables from outside: as other people's programs read them (iasl, acpiexec, dmidecode), as a checker of
//! our own does, and as `xlaunch tables` and `xlaunch topology` tell them. Where a program is missing, a test is skipped
//! with a line that says so; `scripts/setup --tests` installs them.

#![forbid(unsafe_code)]

mod acpiexec;
mod agreement;
mod dmidecode;
mod files;
mod iasl;
mod machines;
mod whole;
