//! Whom a command runs as: `USER[:GROUP]`, by name or number, looked up in the guest's own /etc/passwd and /etc/group.
//!
//! Formats: passwd(5) and group(5). A name comes before a number of the same writing. A number need not stand in
//! the files: then the user is in no group but 0, as container tools have it, and at home in `/`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
/// The most bytes that are read of either.
const FILE_MAX: u64 = 4 << 20;
/// The most groups that a process can be in (Linux, NGROUPS_MAX).
const GROUPS_MAX: usize = 65_536;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The further groups.
    pub(crate) groups: Vec<u32>,
    /// The name, where one is known.
    pub(crate) name: Option<String>,
    /// The home directory.
    pub(crate) home: String,
    /// The login shell; none where the user has none or is not to log in.
    pub(crate) shell: Option<String>,
}

/// What stands in a shell's place for those who are not to log in (nologin(8)).
const NO_SHELLS: [&str; 2] = ["nologin", "false"];

impl User {
    /// The guest's user that `wanted` says. An error is a sentence.
    pub(crate) fn find(wanted: &str) -> Result<Self, String> {
        Self::look_up(wanted, &read(PASSWD)?, &read(GROUP)?)
    }

    fn look_up(wanted: &str, passwd: &str, group: &str) -> Result<Self, String> {
        let (name, group_name) = match wanted.split_once(':') {
            Some((name, group)) => (name, Some(group)),
            None => (wanted, None),
        };
        let mut user = Self::entry(name, passwd).ok_or_else(|| {
            format!(
                "cannot run as user {name:?}: there is none in the guest's {PASSWD}; give a name from it, or a number"
            )
        })?;
        match group_name {
            Some(name) => {
                user.gid = gid(name, group).ok_or_else(|| {
                    format!("cannot run in group {name:?}: there is none in the guest's {GROUP}; give a name from it, or a number")
                })?;
            }
            None => user.groups = groups_of(user.name.as_deref(), group),
        }
        Ok(user)
    }

    /// The user of this name or number.
    fn entry(wanted: &str, passwd: &str) -> Option<Self> {
        let entries = || passwd.lines().filter_map(Self::parse);
        let named = entries().find(|user| user.name.as_deref() == Some(wanted));
        if named.is_some() {
            return named;
        }
        let uid = number(wanted)?;
        entries().find(|user| user.uid == uid).or(Some(Self {
            uid,
            gid: 0,
            groups: Vec::new(),
            name: None,
            home: "/".to_owned(),
            shell: None,
        }))
    }

    /// A line `name:password:uid:gid:comment:home:shell`.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid = number(fields.nth(1)?)?;
        let gid = number(fields.next()?)?;
        let home = fields.nth(1).filter(|home| home.starts_with('/'));
        Some(Self {
            uid,
            gid,
            groups: Vec::new(),
            name: Some(name.to_owned()),
            home: home.unwrap_or("/").to_owned(),
            shell: fields.next().and_then(shell),
        })
    }
}

fn shell(path: &str) -> Option<String> {
    let path = path.trim_end();
    let name = path.strip_prefix('/')?.rsplit('/').next()?;
    (!name.is_empty() && !NO_SHELLS.contains(&name)).then(|| path.to_owned())
}

/// Lines `name:password:gid:members`.
fn group_lines(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = number(fields.nth(1)?)?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

fn gid(wanted: &str, group: &str) -> Option<u32> {
    let named = group_lines(group).find(|(name, ..)| *name == wanted);
    named.map(|(_, gid, _)| gid).or_else(|| number(wanted))
}

/// The groups that name this user as a member.
fn groups_of(user: Option<&str>, group: &str) -> Vec<u32> {
    let Some(user) = user else {
        return Vec::new();
    };
    let has_member = |members: &str| members.split(',').any(|member| member.trim() == user);
    let groups = group_lines(group).filter(|(_, _, members)| has_member(members));
    let mut groups: Vec<u32> = groups.map(|(_, gid, _)| gid).take(GROUPS_MAX).collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// Digits only. The last number means "unchanged" to the system calls and is nobody.
fn number(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = plain.then(|| text.parse().ok()).flatten();
    number.filter(|number| *number != u32::MAX)
}

/// What stands in a file; nothing where there is none. What is no UTF-8 in it matches no name.
fn read(path: &str) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = match File::open(Path::new(path)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        opened => opened.and_then(|file| file.take(FILE_MAX).read_to_end(&mut bytes)),
    };
    read.map_err(|error| format!("cannot read the guest's {path}: {error}; leave --user out"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
        # a comment\nbroken\nalso:x:many:1::/:\n\
        me:x:1000:1001:Me,,,:/home/me:/bin/bash\n\
        nowhere:x:7:7::relative:\n\
        daemon:x:1:1::/:/usr/sbin/nologin\n\
        odd:x:8:8::/:bash\n\
        42:x:2000:2000::/home/42:/bin/sh\n";
    const GROUP: &str =
        "root:x:0:\nme:x:1001:\naudio:x:29:root,me\nvideo:x:44:me, you\nbad:x:x:me\nempty:x:50\n";

    fn user(wanted: &str) -> Result<User, String> {
        User::look_up(wanted, PASSWD, GROUP)
    }

    #[test]
    fn users_and_groups_are_names_or_numbers() {
        let ids = |wanted| user(wanted).map(|it| (it.uid, it.gid, it.groups)).ok();
        for (wanted, expected) in [
            ("root", Some((0, 0, vec![29]))),
            ("me", Some((1000, 1001, vec![29, 44]))),
            ("1000", Some((1000, 1001, vec![29, 44]))),
            ("me:video", Some((1000, 44, vec![]))),
            ("me:99", Some((1000, 99, vec![]))),
            ("42", Some((2000, 2000, vec![]))),
            ("1234", Some((1234, 0, vec![]))),
            ("1234:audio", Some((1234, 29, vec![]))),
            ("you", None),
            ("", None),
            ("me:", None),
            ("me:nobody", None),
            ("also", None),
            ("-1", None),
            ("4294967295", None),
            ("4294967296", None),
            ("me:4294967295", None),
        ] {
            assert_eq!(ids(wanted), expected, "{wanted:?}");
        }
    }

    #[test]
    fn who_is_unknown_is_named() {
        assert!(user("you").unwrap_err().contains("user \"you\""));
        assert!(user("me:them").unwrap_err().contains("group \"them\""));
    }

    #[test]
    fn a_home_is_an_absolute_path() {
        for (wanted, home) in [("me", "/home/me"), ("nowhere", "/"), ("1234", "/")] {
            assert_eq!(user(wanted).unwrap().home, home);
        }
    }

    #[test]
    fn a_shell_is_a_program_that_lets_log_in() {
        for (wanted, shell) in [
            ("me", Some("/bin/bash")),
            ("42", Some("/bin/sh")),
            ("nowhere", None),
            ("daemon", None),
            ("odd", None),
            ("1234", None),
        ] {
            assert_eq!(user(wanted).unwrap().shell.as_deref(), shell, "{wanted}");
        }
    }
}
