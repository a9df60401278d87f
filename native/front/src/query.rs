//! The query string, decoded on the way.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Pairs of a query string in order, as Go's `url.ParseQuery` reads them: those with a `;` or a bad escape are none.
/// Invalid UTF-8 is replaced.
#[derive(Clone, Copy)]
pub struct Query<'q> {
    raw: &'q str,
}

impl<'q> Query<'q> {
    pub fn new(raw: &'q str) -> Self {
        Self { raw }
    }

    pub fn pairs(self) -> impl Iterator<Item = (Cow<'q, str>, Cow<'q, str>)> {
        self.raw.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')).filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(key)?, decode(value)?))
        })
    }

    /// The first value of `key`, as Kubernetes takes it.
    #[inline]
    pub fn first(self, key: &str) -> Option<Cow<'q, str>> {
        // As of most requests.
        if self.raw.is_empty() {
            return None;
        }
        self.pairs().find(|(name, _)| name == key).map(|(_, value)| value)
    }
}

/// None for a bad escape.
fn decode(raw: &str) -> Option<Cow<'_, str>> {
    if !raw.bytes().any(|byte| byte == b'+' || byte == b'%') {
        return Some(Cow::Borrowed(raw));
    }
    let mut escapes = raw.split('%').skip(1);
    if !escapes.all(|escape| escape.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2) {
        return None;
    }
    let spaced = raw.replace('+', " ");
    Some(Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_the_first_counts() {
        let query = Query::new("labelSelector=app%3Dweb+x&watch&limit=5&limit=6&");
        assert_eq!(query.first("labelSelector").as_deref(), Some("app=web x"));
        assert_eq!(query.first("watch").as_deref(), Some(""));
        assert_eq!(query.first("limit").as_deref(), Some("5"));
        assert_eq!(query.first("nope"), None);
        assert_eq!(query.pairs().count(), 4);
    }

    #[test]
    fn a_pair_that_go_cannot_read_is_none() {
        let query = Query::new("a=%zz&b=%ff&%=1&c=1;d=2&e=%4&f=%41;");
        let pairs: Vec<_> = query.pairs().collect();
        assert_eq!(pairs, [("b".into(), "\u{fffd}".into())]);
    }
}
