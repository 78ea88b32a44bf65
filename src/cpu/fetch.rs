//! Translations of instruction fetches, and the keys under which code is found again by its linear address.
//!
//! A key says in which view of memory a linear address was translated. It moves on whenever translations are forgotten, so
//! whatever was stored under an old key is never found again. Translations that are global outlive a write to CR3
//! and have a key of their own.

use hvf_sys::ram::PAGE;

const ENTRIES: usize = 256;

#[derive(Clone, Copy, Default)]
struct Entry {
    /// The linear page; `key` 0 means that there is none.
    page: u64,
    key: u64,
    gpa: u64,
}

/// One vCPU's cache of fetch translations.
pub struct FetchCache {
    entries: Box<[Entry; ENTRIES]>,
    local: u64,
    global: u64,
}

/// The keys under which code may currently be found by one privilege level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// For translations that end with a write to CR3.
    pub local: u64,
    /// For those that do not.
    pub global: u64,
}

impl Default for FetchCache {
    fn default() -> Self {
        Self {
            entries: Box::new([Entry::default(); ENTRIES]),
            local: 1,
            global: 1,
        }
    }
}

impl FetchCache {
    /// The keys for user (CPL 3) or supervisor fetches. None is ever zero.
    #[inline(always)]
    pub fn keys(&self, user: bool) -> Keys {
        let user = u64::from(user);
        Keys {
            local: self.local << 2 | user,
            global: self.global << 2 | 2 | user,
        }
    }

    /// The guest physical page of a linear address, with the key that it was found under.
    pub fn find(&self, va: u64, keys: Keys) -> Option<(u64, u64)> {
        let entry = &self.entries[slot(va)];
        let current = entry.key == keys.local || entry.key == keys.global;
        (entry.page == va & !(PAGE - 1) && current).then_some((entry.gpa, entry.key))
    }

    /// Enters a translation and gives its key.
    pub fn fill(&mut self, va: u64, gpa: u64, global: bool, keys: Keys) -> u64 {
        let key = if global { keys.global } else { keys.local };
        self.entries[slot(va)] = Entry {
            page: va & !(PAGE - 1),
            key,
            gpa: gpa & !(PAGE - 1),
        };
        key
    }

    /// Forgets everything.
    pub fn flush(&mut self) {
        self.local += 1;
        self.global += 1;
    }

    /// Forgets what is not global.
    pub fn flush_local(&mut self) {
        self.local += 1;
    }

    /// Forgets a page. Whether it was global is not known any more, so both keys move on.
    pub fn flush_page(&mut self, _va: u64) {
        self.flush();
    }
}

fn slot(va: u64) -> usize {
    (va / PAGE) as usize % ENTRIES
}
