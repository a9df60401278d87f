//! Names as keys of tables.

use hickory_proto::rr::Name;

/// A name in wire form and lower case, without the root label: its parents are its suffixes.
pub(super) type Key = Box<[u8]>;

pub(super) fn key(name: &Name) -> Key {
    let mut key = Vec::with_capacity(name.len());
    for label in name.iter() {
        key.push(label.len() as u8);
        key.extend(label.iter().map(u8::to_ascii_lowercase));
    }
    key.into()
}

/// The name without its first label; None for the root.
pub(super) fn parent(key: &[u8]) -> Option<&[u8]> {
    let first = usize::from(*key.first()?) + 1;
    key.get(first..)
}

/// Whether the name is `zone` or one below it.
pub(super) fn is_below(key: &[u8], zone: &[u8]) -> bool {
    let mut name = Some(key);
    while let Some(current) = name {
        if current.len() <= zone.len() {
            return current == zone;
        }
        name = parent(current);
    }
    false
}
