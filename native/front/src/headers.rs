//! The headers of a request, and which of the names that the chain asks every request for are among them. Most of those
//! are absent nearly always, and each look-up would hash its name: the few headers there are are seen once instead.

use std::ops::Deref;

use http::{HeaderMap, HeaderName, HeaderValue};

macro_rules! names {
    ($($name:ident: $text:literal,)*) => {
        /// What is asked of every request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Name {
            $($name,)*
            /// Any of those that ask to act as somebody else.
            Impersonate,
        }

        impl Name {
            fn of(text: &str) -> Option<Self> {
                match text {
                    $($text => Some(Self::$name),)*
                    _ if text.starts_with("impersonate-") => Some(Self::Impersonate),
                    _ => None,
                }
            }

            /// None for what has many names.
            #[inline]
            fn header(self) -> Option<&'static HeaderName> {
                match self {
                    $(Self::$name => {
                        static NAME: HeaderName = HeaderName::from_static($text);
                        Some(&NAME)
                    })*
                    Self::Impersonate => None,
                }
            }
        }
    };
}

names! {
    Accept: "accept",
    AuditId: "audit-id",
    Expect: "expect",
    ForwardedFor: "x-forwarded-for",
    Host: "host",
    RealIp: "x-real-ip",
    TraceParent: "traceparent",
    Upgrade: "upgrade",
    UserAgent: "user-agent",
}

/// Those that a request has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Names {
    bits: u16,
    /// Bytes of all headers, as they are counted against the limit.
    pub bytes: usize,
}

impl Names {
    pub fn among(headers: &HeaderMap) -> Self {
        let mut names = Self::default();
        for (name, value) in headers {
            let text = name.as_str();
            names.bytes += text.len() + value.len() + 4;
            if let Some(name) = Name::of(text) {
                names.bits |= bit(name);
            }
        }
        names
    }

    #[inline]
    pub fn has(self, name: Name) -> bool {
        self.bits & bit(name) != 0
    }

    /// The first value of `name` in the headers that these are the names of.
    #[inline]
    pub fn first(self, name: Name, headers: &HeaderMap) -> Option<&HeaderValue> {
        if self.has(name) { headers.get(name.header()?) } else { None }
    }
}

fn bit(name: Name) -> u16 {
    1 << name as u16
}

/// To be read as a map, too.
#[derive(Debug, Default)]
pub struct Headers {
    map: HeaderMap,
    names: Names,
}

impl Headers {
    /// `names`: those of the map.
    pub fn known(map: HeaderMap, names: Names) -> Self {
        debug_assert_eq!(names, Names::among(&map));
        Self { map, names }
    }

    #[inline]
    pub fn has(&self, name: Name) -> bool {
        self.names.has(name)
    }

    #[inline]
    pub fn first(&self, name: Name) -> Option<&HeaderValue> {
        self.names.first(name, &self.map)
    }

    /// Whether there is more than one of the name.
    pub fn are_repeated(&self, name: &HeaderName) -> bool {
        // Mostly no name comes twice.
        self.map.len() > self.map.keys_len() && self.map.get_all(name).iter().nth(1).is_some()
    }

    pub fn insert(&mut self, name: HeaderName, value: HeaderValue) {
        self.map.insert(name, value);
        self.names = Names::among(&self.map);
    }
}

impl From<HeaderMap> for Headers {
    fn from(map: HeaderMap) -> Self {
        let names = Names::among(&map);
        Self { map, names }
    }
}

impl Deref for Headers {
    type Target = HeaderMap;

    fn deref(&self) -> &HeaderMap {
        &self.map
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Name; 9] = [
        Name::Accept,
        Name::AuditId,
        Name::Expect,
        Name::ForwardedFor,
        Name::Host,
        Name::RealIp,
        Name::TraceParent,
        Name::Upgrade,
        Name::UserAgent,
    ];

    proptest! {
        /// Repeated ones, and such as nobody asks for, as well.
        #[test]
        fn what_is_seen_is_what_is_there(
            given in prop::collection::vec(
                ("accept|audit-id|expect|x-forwarded-for|host|x-real-ip|traceparent|upgrade|user-agent|x-[a-z]{1,3}|impersonate-[a-z]|impersonate", "[a-z]{0,3}"),
                0..12,
            )
        ) {
            let mut map = HeaderMap::new();
            for (name, value) in &given {
                map.append(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
            }
            let headers = Headers::from(map.clone());
            for name in ALL {
                prop_assert_eq!(headers.first(name), map.get(name.header().unwrap()), "{:?}", name);
                prop_assert_eq!(headers.has(name), headers.first(name).is_some());
            }
            let impersonates = given.iter().any(|(name, _)| name.starts_with("impersonate-"));
            prop_assert_eq!(headers.has(Name::Impersonate), impersonates);
            let bytes: usize = given.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
            prop_assert_eq!(headers.names.bytes, bytes);
        }
    }

    #[test]
    fn what_is_put_there_is_seen() {
        let mut headers = Headers::default();
        headers.insert(HeaderName::from_static("audit-id"), HeaderValue::from_static("a"));
        assert_eq!(headers.first(Name::AuditId).unwrap(), "a");
    }
}
