//! Where a browser says a request comes from.
//!
//! Contract: a request that brings a session's cookie, or asks for one, and changes something has to
//! come from the page this server served. A browser says so in `Sec-Fetch-Site` and in `Origin`; what
//! is no browser sends neither and has no cookie of anybody else's either. Pure.

/// What the head of a request says of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Claims<'a> {
    /// `Sec-Fetch-Site`.
    pub fetch_site: Option<&'a str>,
    /// `Origin`.
    pub origin: Option<&'a str>,
    /// `Host`.
    pub host: Option<&'a str>,
}

impl Claims<'_> {
    /// Whether it may change something. The scheme is not compared: behind a proxy that ends TLS it is
    /// not known here, and a page of the same authority is this server's.
    #[must_use]
    pub fn may_change(&self) -> bool {
        let site = self.fetch_site.is_none_or(|site| site == "same-origin" || site == "none");
        let origin = self.origin.is_none_or(|origin| {
            let authority = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            authority.zip(self.host).is_some_and(|(authority, host)| authority.eq_ignore_ascii_case(host))
        });
        site && origin
    }

    /// Whether it may be answered at all.
    #[must_use]
    pub fn may_read(&self) -> bool {
        self.fetch_site != Some("cross-site")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_page_changes_anything() {
        let host = Some("tocsin.example:9202");
        let may = |fetch_site, origin| Claims { fetch_site, origin, host }.may_change();
        assert!(may(None, None), "no browser");
        assert!(may(Some("same-origin"), Some("https://tocsin.example:9202")));
        assert!(may(None, Some("http://TOCSIN.example:9202")), "an old browser, TLS ended before");
        for site in ["cross-site", "same-site", "", "Same-Origin"] {
            assert!(!may(Some(site), None), "{site}");
        }
        let foreign =
            ["null", "", "https://tocsin.example", "https://evil.example:9202", "ftp://tocsin.example:9202"];
        for origin in
            foreign.into_iter().chain(["https://tocsin.example:9202.evil.example", "tocsin.example:9202"])
        {
            assert!(!may(Some("same-origin"), Some(origin)), "{origin}");
        }
        let no_host = Claims { origin: Some("https://x"), ..Claims::default() };
        assert!(!no_host.may_change());
    }

    #[test]
    fn another_site_reads_nothing() {
        let reads = |fetch_site| Claims { fetch_site, ..Claims::default() }.may_read();
        assert!(reads(None) && reads(Some("same-origin")) && reads(Some("none")) && reads(Some("same-site")));
        assert!(!reads(Some("cross-site")));
    }
}
