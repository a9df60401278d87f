//! What is asked again and again is read once.

use std::cell::RefCell;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use http::Method;
use rustc_hash::FxHasher;

use super::{BadPath, RequestInfo};
use crate::recent::{Recent, spread};

/// Bytes of a path and its query; longer ones are not kept.
const LONGEST_KEPT: usize = 512;

/// A request as its head has it, and what it asks for.
struct Asked {
    method: Method,
    path: Box<str>,
    query: Box<str>,
    info: Arc<RequestInfo>,
}

thread_local! {
    static RECENT: RefCell<Recent<Asked>> = const { RefCell::new(Recent::new()) };
}

impl RequestInfo {
    /// As `parse`; what is asked again and again is the same object each time.
    pub fn of(method: &Method, raw_path: &str, query: &str) -> Result<Arc<Self>, BadPath> {
        let parsed = || Self::parse(method, raw_path, query).map(Arc::new);
        if raw_path.len() + query.len() > LONGEST_KEPT {
            return parsed();
        }
        let mut hasher = FxHasher::default();
        (method, raw_path, query).hash(&mut hasher);
        let number = spread(hasher.finish());
        RECENT.with_borrow_mut(|recent| {
            let is_it =
                |asked: &&Asked| asked.method == method && *asked.path == *raw_path && *asked.query == *query;
            if let Some(asked) = recent.get(number).filter(is_it) {
                return Ok(asked.info.clone());
            }
            let info = parsed()?;
            recent.put(number, || Asked {
                method: method.clone(),
                path: raw_path.into(),
                query: query.into(),
                info: info.clone(),
            });
            Ok(info)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::exchange::attributes_of;

    #[test]
    fn what_is_asked_again_and_again_is_read_once() {
        let of = |path| RequestInfo::of(&Method::GET, path, "").unwrap();
        let [_, second, third] = [(); 3].map(|()| of("/api/v1/namespaces/a/pods/p"));
        assert!(Arc::ptr_eq(&second, &third));
        assert_eq!(of("/api/v1/namespaces/a/pods/q").name(), "q");
    }

    proptest! {
        /// Whatever is kept of others.
        #[test]
        fn it_is_read_as_it_is(
            asked in prop::collection::vec(("GET|HEAD|PUT|GOT", "/api/v1/(pods|nodes)/[a-c]?", "|watch=[01]|x=1"), 1..64)
        ) {
            for (method, path, query) in asked {
                let method = Method::from_bytes(method.as_bytes()).unwrap();
                let [known, read] = [RequestInfo::of, |method: &_, path: &_, query: &_| {
                    RequestInfo::parse(method, path, query).map(Arc::new)
                }].map(|of| of(&method, &path, &query).unwrap());
                prop_assert_eq!(attributes_of(&known), attributes_of(&read));
                prop_assert_eq!(known.path(), read.path());
            }
        }
    }
}
