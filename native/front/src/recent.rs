//! What is asked again and again: the same objects by the same clients, as when leases are renewed and things are polled.
//! What was found out about such requests is kept, for as long as what it was found in stays.
//!
//! Each thread has tables of its own. Of what is asked once a number is kept and nothing else.

use std::sync::Arc;

use kubecore_core::authn::UserInfo;

use crate::request_info::RequestInfo;

/// A power of two.
const PLACES: usize = 256;

enum Place<V> {
    Seen(u64),
    Held(u64, V),
}

/// Values by numbers that are as good as random: one for each place, the newest.
pub(crate) struct Recent<V>(Vec<Place<V>>);

impl<V> Recent<V> {
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// What was kept for the number. Another thing may have had the same one: whoever asks looks what it is.
    pub fn get(&self, number: u64) -> Option<&V> {
        match self.0.get(place(number))? {
            Place::Held(of, value) if *of == number => Some(value),
            _ => None,
        }
    }

    /// To be kept from the second time on.
    pub fn put(&mut self, number: u64, value: impl FnOnce() -> V) {
        if self.0.is_empty() {
            self.0.resize_with(PLACES, || Place::Seen(0));
        }
        let place = &mut self.0[place(number)];
        let (Place::Seen(of) | Place::Held(of, _)) = place;
        *place = if *of == number { Place::Held(number, value()) } else { Place::Seen(number) };
    }
}

fn place(number: u64) -> usize {
    (number >> (u64::BITS - PLACES.ilog2())) as usize
}

/// Values by who asks for what: the same user's object for the same request info's.
pub(crate) struct RecentlyAsked<V>(Recent<(Arc<UserInfo>, Arc<RequestInfo>, V)>);

impl<V> RecentlyAsked<V> {
    pub const fn new() -> Self {
        Self(Recent::new())
    }

    pub fn get(&self, user: &Arc<UserInfo>, info: &Arc<RequestInfo>) -> Option<&V> {
        let (of, what, value) = self.0.get(number_of(user, info))?;
        (Arc::ptr_eq(of, user) && Arc::ptr_eq(what, info)).then_some(value)
    }

    /// To be kept from the second time on.
    pub fn put(&mut self, user: &Arc<UserInfo>, info: &Arc<RequestInfo>, value: impl FnOnce() -> V) {
        self.0.put(number_of(user, info), || (user.clone(), info.clone(), value()));
    }
}

/// By where they are, which is theirs for as long as they are kept.
fn number_of(user: &Arc<UserInfo>, info: &Arc<RequestInfo>) -> u64 {
    number(Arc::as_ptr(user) as u64, Arc::as_ptr(info) as u64)
}

/// The same for what is asked for by anybody.
pub(crate) fn number_of_info(info: &Arc<RequestInfo>) -> u64 {
    spread(Arc::as_ptr(info) as u64)
}

/// Of two addresses.
fn number(one: u64, other: u64) -> u64 {
    spread(one ^ other.rotate_left(32))
}

/// So that the highest bits depend on all.
pub(crate) fn spread(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use http::Method;

    use super::*;

    #[test]
    fn what_comes_twice_is_kept_until_another_has_its_place() {
        let mut recent = Recent::new();
        assert_eq!(recent.get(7), None);
        recent.put(7, || "once");
        assert_eq!(recent.get(7), None);
        recent.put(7, || "twice");
        assert_eq!(recent.get(7), Some(&"twice"));
        recent.put(7, || "anew");
        assert_eq!((recent.get(7), recent.get(8)), (Some(&"anew"), None));
        recent.put(8, || "another");
        assert_eq!((recent.get(7), recent.get(8)), (None, None));
    }

    #[test]
    fn who_asks_and_what_for_are_told_apart() {
        let info = |path| Arc::new(RequestInfo::parse(&Method::GET, path, "").unwrap());
        let (users, infos) = ([(); 2].map(|()| Arc::new(UserInfo::new("jane", &[]))), ["/a", "/a"].map(info));
        let mut recent = RecentlyAsked::new();
        for _ in 0..2 {
            recent.put(&users[0], &infos[0], || "kept");
        }
        assert_eq!(recent.get(&users[0], &infos[0]), Some(&"kept"));
        assert_eq!((recent.get(&users[1], &infos[0]), recent.get(&users[0], &infos[1])), (None, None));
    }

    #[test]
    fn addresses_are_spread_over_all_places() {
        let addresses = |of: u64| (0..16).map(move |number| of + number * 0x60);
        let numbers: HashSet<u64> = addresses(0x7f12_3440_0040)
            .flat_map(|one| addresses(0x7f12_3580_0100).map(move |other| number(one, other)))
            .collect();
        assert_eq!(numbers.len(), 256);
        let places: HashSet<usize> = numbers.into_iter().map(place).collect();
        assert!(places.len() > 100, "{}", places.len());
    }
}
