//! The shared-memory journal's recovery: any file is taken, what is found is bounded, and what was
//! appended comes back from behind damage only as it was.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tocsin::store::shm::{self, FILE_BYTES};

fuzz_target!(|bytes: &[u8]| {
    let _ = shm::scan(bytes);
    // A file of the right length whose start is the input: past the checks of length.
    let mut file = vec![0; FILE_BYTES];
    let len = bytes.len().min(FILE_BYTES);
    file[..len].copy_from_slice(&bytes[..len]);
    file[..8].copy_from_slice(b"TOCSNSHM");
    file[8..16].copy_from_slice(&1_u64.to_le_bytes());
    file[16..24].copy_from_slice(&((FILE_BYTES - 4_096) as u64).to_le_bytes());
    let found = shm::scan(&file);
    assert!(found.announcements.len() <= FILE_BYTES / 16);
    let _ = tocsin::store::record::decode(bytes);
    // The journal of webhook outcomes is the same but for its records.
    file[..8].copy_from_slice(b"TOCSNSHO");
    assert!(shm::scan_outcomes(&file).0.len() <= FILE_BYTES / 16);
});
