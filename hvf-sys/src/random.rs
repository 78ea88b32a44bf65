//! Random numbers of the host's kernel.

use std::io;

/// Fills `bytes` from the host's random number generator. The kernel gives up to 256 bytes whole, so that larger
/// requests go in parts of that size.
pub fn fill(bytes: &mut [u8]) -> io::Result<()> {
    for chunk in bytes.chunks_mut(256) {
        fill_chunk(chunk)?;
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn fill_chunk(chunk: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while let rest @ [_, ..] = &mut chunk[done..] {
        // SAFETY: the range is a live, writable slice of that length.
        let n = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(n) {
            Ok(n) => done += n,
            Err(_) => {
                let error = io::Error::last_os_error();
                // Only while the generator starts up, before which the call waits.
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn fill_chunk(chunk: &mut [u8]) -> io::Result<()> {
    // SAFETY: the range is a live, writable slice of at most 256 bytes, which the call fills.
    if unsafe { libc::getentropy(chunk.as_mut_ptr().cast(), chunk.len()) } != 0 {
        return Err(io::Error::last_os_error());
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
