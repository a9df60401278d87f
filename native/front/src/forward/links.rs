//! Links to a backend as its client reaches it: through us. After apimachinery `pkg/util/proxy/transport.go`
//! (`rewriteURL`).

/// How links of one answer are told.
#[derive(Clone)]
pub struct Links {
    /// Under which path of ours the backend's `/` is seen.
    pub prefix: String,
    /// By which names the backend may call itself.
    pub backend: [String; 2],
    /// Whom the client has asked, as it says.
    pub asked: String,
}

impl Links {
    /// None for a link that leads elsewhere, is relative, or goes through us already.
    pub fn seen(&self, told: &str) -> Option<String> {
        let (origin, host, path) = parts(told);
        let asked = origin.is_empty() || host == self.asked;
        if !asked && self.backend.iter().all(|name| name != host) {
            return None;
        }
        let path = if path.is_empty() && !origin.is_empty() { "/" } else { path };
        if !path.starts_with('/') {
            return None;
        }
        match (asked, path.starts_with(&self.prefix)) {
            (true, true) => None,
            (true, false) => Some(format!("{origin}{}{path}", self.prefix)),
            (false, true) => Some(path.to_owned()),
            (false, false) => Some(format!("{}{path}", self.prefix)),
        }
    }
}

/// "https://host:1", "host:1" and "/path?query" of a link; the first two are empty where it says nothing of a host.
fn parts(link: &str) -> (&str, &str, &str) {
    let named = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_alphabetic())
            && text.chars().all(|one| one.is_ascii_alphanumeric() || "+-.".contains(one))
    };
    let rest = match link.split_once("://") {
        Some((scheme, rest)) if named(scheme) => rest,
        _ => match link.strip_prefix("//") {
            Some(rest) => rest,
            None => return ("", "", link),
        },
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (origin, path) = link.split_at(link.len() - rest.len() + end);
    (origin, rest.get(..end).unwrap_or(""), path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(told: &str) -> Option<String> {
        let backend = ["10.1.2.3:8080".to_owned(), "10.1.2.3".to_owned()];
        Links { prefix: "/prefix".into(), backend, asked: "api:6443".into() }.seen(told)
    }

    #[test]
    fn a_link_within_the_backend_leads_through_the_proxy() {
        assert_eq!(seen("/login").as_deref(), Some("/prefix/login"));
        assert_eq!(seen("/").as_deref(), Some("/prefix/"));
        assert_eq!(seen("http://10.1.2.3:8080/login?a=b").as_deref(), Some("/prefix/login?a=b"));
        assert_eq!(seen("//10.1.2.3/login#top").as_deref(), Some("/prefix/login#top"));
        assert_eq!(seen("http://10.1.2.3").as_deref(), Some("/prefix/"));
    }

    #[test]
    fn one_to_whom_the_client_has_asked_keeps_that() {
        assert_eq!(seen("https://api:6443/login").as_deref(), Some("https://api:6443/prefix/login"));
        assert_eq!(seen("https://api:6443/prefix/login"), None);
        assert_eq!(seen("/prefix/login"), None);
    }

    #[test]
    fn one_that_leads_elsewhere_or_is_relative_stays() {
        for told in [
            "https://elsewhere.example/login",
            "//elsewhere.example/",
            "login",
            "../login",
            "?next=http://10.1.2.3:8080/",
            "login?next=https://api:6443/x",
            "#top",
            "",
            "mailto:root@api",
            "data:text/plain,/x",
            "javascript:void(0)",
        ] {
            assert_eq!(seen(told), None, "{told}");
        }
    }
}
