//! Error numbers as Linux has them, whatever the host is.

use std::io;

/// An error number of Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Errno(pub(super) u32);

impl Errno {
    pub(super) const PERM: Self = Self(1);
    pub(super) const NOENT: Self = Self(2);
    pub(super) const IO: Self = Self(5);
    pub(super) const NXIO: Self = Self(6);
    pub(super) const TOOBIG: Self = Self(7);
    pub(super) const BADF: Self = Self(9);
    pub(super) const NOMEM: Self = Self(12);
    pub(super) const EXIST: Self = Self(17);
    pub(super) const NOTDIR: Self = Self(20);
    pub(super) const ISDIR: Self = Self(21);
    pub(super) const INVAL: Self = Self(22);
    pub(super) const NFILE: Self = Self(23);
    pub(super) const ROFS: Self = Self(30);
    pub(super) const RANGE: Self = Self(34);
    pub(super) const NAMETOOLONG: Self = Self(36);
    pub(super) const NOLCK: Self = Self(37);
    pub(super) const LOOP: Self = Self(40);
    pub(super) const NODATA: Self = Self(61);
    pub(super) const PROTO: Self = Self(71);
    pub(super) const OPNOTSUPP: Self = Self(95);
    pub(super) const STALE: Self = Self(116);
}

impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Self {
        match (error.raw_os_error(), error.kind()) {
            (Some(code), _) if cfg!(target_os = "macos") => Self(from_macos(code)),
            (Some(code), _) => Self(u32::try_from(code).unwrap_or(Self::IO.0)),
            (None, io::ErrorKind::InvalidInput) => Self::INVAL,
            (None, _) => Self::IO,
        }
    }
}

/// Those of macOS's numbers (<sys/errno.h>) that mean something else on Linux, with Linux's.
const FROM_MACOS: [(i32, u32); 27] = [
    (11, 35),   // EDEADLK
    (35, 11),   // EAGAIN
    (36, 115),  // EINPROGRESS
    (37, 114),  // EALREADY
    (45, 95),   // ENOTSUP
    (60, 110),  // ETIMEDOUT
    (62, 40),   // ELOOP
    (63, 36),   // ENAMETOOLONG
    (66, 39),   // ENOTEMPTY
    (68, 87),   // EUSERS
    (69, 122),  // EDQUOT
    (70, 116),  // ESTALE
    (71, 66),   // EREMOTE
    (77, 37),   // ENOLCK
    (78, 38),   // ENOSYS
    (84, 75),   // EOVERFLOW
    (89, 125),  // ECANCELED
    (90, 43),   // EIDRM
    (91, 42),   // ENOMSG
    (92, 84),   // EILSEQ
    (93, 61),   // ENOATTR, which Linux says ENODATA for
    (94, 74),   // EBADMSG
    (96, 61),   // ENODATA
    (100, 71),  // EPROTO
    (102, 95),  // EOPNOTSUPP
    (104, 131), // ENOTRECOVERABLE
    (105, 130), // EOWNERDEAD
];

/// Up to ERANGE both count alike, with one exception; what is left over is an error of input or output.
fn from_macos(code: i32) -> u32 {
    let known = FROM_MACOS.iter().find(|(theirs, _)| *theirs == code);
    match (known, code) {
        (Some((_, linux)), _) => *linux,
        (None, 1..=34) => code.unsigned_abs(),
        _ => Errno::IO.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_macos_are_told_as_linux_would() {
        for (theirs, linux) in [(2, 2), (11, 35), (35, 11), (34, 34), (66, 39), (93, 61)] {
            assert_eq!(from_macos(theirs), linux);
        }
        for unknown in [0, -1, 1000, i32::MIN] {
            assert_eq!(from_macos(unknown), Errno::IO.0);
        }
    }

    #[test]
    fn errors_without_a_number_have_one() {
        let invalid = io::Error::from(io::ErrorKind::InvalidInput);
        assert_eq!(Errno::from(invalid), Errno::INVAL);
        assert_eq!(Errno::from(io::Error::other("no")), Errno::IO);
        let absent = std::fs::metadata("/no/such/file").unwrap_err();
        assert_eq!(Errno::from(absent), Errno::NOENT);
    }
}
