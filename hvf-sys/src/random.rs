//! Random numbers of the host's kernel.

use std::io;

/// The most that `getentropy` gives in one call.
const CHUNK: usize = 256;

/// Fills `bytes` from the host's random number generator.
pub fn fill(bytes: &mut [u8]) -> io::Result<()> {
    for chunk in bytes.chunks_mut(CHUNK) {
        // SAFETY: the range is a live, writable slice of at most the length that the call takes.
        if unsafe { libc::getentropy(chunk.as_mut_ptr().cast(), chunk.len()) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_filled() {
        let mut bytes = [0; 1000];
        fill(&mut bytes).unwrap();
        for part in bytes.chunks(40) {
            assert_ne!(part, &[0; 40][..part.len()]);
        }
    }
}
