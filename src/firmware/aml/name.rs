//! Names: four characters a segment, filled up with underscores (ACPI 6.5, 20.2.2).

/// One segment.
pub(super) fn name_seg(name: &str) -> [u8; 4] {
    let mut seg = *b"____";
    for (to, from) in seg.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    seg
}

/// A path: a root or parent prefix, then segments between dots.
pub(super) fn name_path(path: &str) -> Vec<u8> {
    let segments = path.trim_start_matches(['\\', '^']);
    let mut bytes = path.as_bytes()[..path.len() - segments.len()].to_vec();
    let segments: Vec<_> = segments.split('.').filter(|seg| !seg.is_empty()).collect();
    match segments.len() {
        0 => bytes.push(0),
        1 => {}
        2 => bytes.push(0x2e),
        many => bytes.extend([0x2f, many as u8]),
    }
    bytes.extend(segments.iter().flat_map(|seg| name_seg(seg)));
    bytes
}
