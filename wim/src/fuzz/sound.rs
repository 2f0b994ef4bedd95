//! Makes the hashes of a changed image right again, so that its changes are unpacked and not merely noticed.

use sha1::{Digest, Sha1};

use super::{MOST, split};
use crate::blob::{Blob, Hash};
use crate::bytes::{array, u64_at};
use crate::contents::{Contents, Unread};
use crate::header::{HEADER_LEN, Header, ResourceHeader};
use crate::reader::Wim;
use crate::resource::read_whole;

/// Blobs whose hashes are made sound; a seed has fewer.
const MOST_BLOBS: usize = 64;
/// An entry of the blob table, and where in it the hash is.
const ENTRY_LEN: usize = 50;
const HASH_AT: usize = 30;
/// What stands before a resource of a pipable WIM, and where in it the hash is.
const BLOB_HEADER: u64 = 40;
const BLOB_HASH_AT: u64 = 16;

/// Puts the right SHA-1 wherever the WIM that lies in `files` gives one of contents or metadata. Metadata that names
/// contents by their hashes changes with them; where it is compressed, it is then stored as it is behind all else. In a
/// pipable WIM there is no such place: there compressed metadata names contents that have changed in vain.
pub fn sound_hashes(files: &mut [Vec<u8>]) {
    let Ok(wim) = split(files) else { return };
    let mut blobs: Vec<(Hash, Blob)> = wim.blobs.by_hash.iter().map(|(hash, blob)| (*hash, *blob)).collect();
    // An order that is the same in every run.
    blobs.sort_unstable_by_key(|(hash, _)| *hash);
    let mut contents = Contents::new(&wim);
    let changes: Vec<(Hash, Hash)> = blobs
        .into_iter()
        .take(MOST_BLOBS)
        .filter_map(|(old, blob)| Some((old, hash_of(&mut contents, &blob)?)))
        .filter(|(old, new)| old != new)
        .collect();
    for file in &mut *files {
        replace(file, &changes);
    }
    if let Some(first) = files.first_mut() {
        wim.blobs.metadata.iter().for_each(|(at, hash)| sound_metadata(&wim, first, at, *hash, &changes));
    }
    if wim.header.pipable {
        files.iter_mut().for_each(sound_pipable);
    }
}

fn hash_of(contents: &mut Contents<'_>, blob: &Blob) -> Option<Hash> {
    if blob.size > MOST {
        return None;
    }
    let mut hasher = Sha1::new();
    let read = contents.read(blob, |piece| {
        hasher.update(piece);
        Ok::<_, Unread>(())
    });
    read.ok().map(|()| hasher.finalize().into())
}

/// Puts new hashes in the place of old ones, wherever they are; whether there was one.
fn replace(bytes: &mut [u8], changes: &[(Hash, Hash)]) -> bool {
    let mut found = false;
    for at in 0..bytes.len() {
        let Some(place) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<20>()) else { break };
        if let Some((_, new)) = changes.iter().find(|(old, _)| old == place) {
            *place = *new;
            found = true;
        }
    }
    found
}

fn sound_metadata(wim: &Wim, file: &mut Vec<u8>, at: &ResourceHeader, old: Hash, changes: &[(Hash, Hash)]) {
    let Ok(mut bytes) = read_whole(wim.parts.source(1), at, wim.header.layout(), "", MOST) else { return };
    let is_changed = replace(&mut bytes, changes);
    let new = Hash::from(Sha1::digest(&bytes));
    if is_changed && at.has(ResourceHeader::COMPRESSED) {
        let entry = (!wim.header.pipable).then(|| entry_of(wim, file, &old)).flatten();
        let Some(entry) = entry else { return };
        let (len, offset) = (bytes.len() as u64, file.len() as u64);
        let [a, b, c, d, e, f, g, _] = len.to_le_bytes();
        let stored = [a, b, c, d, e, f, g, at.flags & !ResourceHeader::COMPRESSED];
        let header = [stored, offset.to_le_bytes(), len.to_le_bytes()].concat();
        if let Some(place) = file.get_mut(entry..entry.saturating_add(header.len())) {
            place.copy_from_slice(&header);
        }
        file.append(&mut bytes);
    }
    replace(file, &[(old, new)]);
}

/// Where the entry of the blob table is that gives this hash.
fn entry_of(wim: &Wim, file: &[u8], hash: &Hash) -> Option<usize> {
    let table = wim.header.blob_table;
    if table.has(ResourceHeader::COMPRESSED) {
        return None;
    }
    let begin = usize::try_from(table.offset).ok()?;
    let entries = file.get(begin..begin.checked_add(usize::try_from(table.stored).ok()?)?)?.chunks_exact(ENTRY_LEN);
    let which = entries.map(|entry| array::<20>(entry, HASH_AT)).position(|found| found.as_ref() == Some(hash))?;
    begin.checked_add(which.checked_mul(ENTRY_LEN)?)
}

/// Of a pipable WIM, blob table and XML data have hashes, too: before them, as all resources have.
fn sound_pipable(file: &mut Vec<u8>) {
    let Ok(header) = Header::find(&*file) else { return };
    let first = (HEADER_LEN as u64).saturating_add(BLOB_HEADER);
    let first_len = u64_at(file, HEADER_LEN.saturating_add(8)).unwrap_or(0);
    let placed = [header.blob_table, header.xml].into_iter().filter(|at| !at.has(ResourceHeader::COMPRESSED));
    for (offset, len) in placed.map(|at| (at.offset, at.size)).chain([(first, first_len)]) {
        let range = |from: u64, len: u64| {
            let from = usize::try_from(from).ok()?;
            Some(from..from.checked_add(usize::try_from(len).ok()?)?)
        };
        let Some(hash) = range(offset, len).and_then(|range| file.get(range)).map(Sha1::digest) else { continue };
        let place = offset.checked_sub(BLOB_HEADER.saturating_sub(BLOB_HASH_AT)).and_then(|at| range(at, 20));
        if let Some(place) = place.and_then(|place| file.get_mut(place)) {
            place.copy_from_slice(&hash);
        }
    }
}
