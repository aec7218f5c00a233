//! The dashboard's files: `GET /` and `GET /assets/*`, compiled in.
//!
//! Contract: what is served is in [`FILES`] and nowhere else; the folder `engine/tocsin/dashboard` holds
//! nothing more. Each answer carries its type, an `ETag` (the SHA-256 of the bytes) and `no-cache`, so
//! that a browser asks whether it changed and mostly gets 304. Headers forbid what the pages do not do:
//! script or style that is not one of these files, other hosts, frames, forms that leave.
//!
//! Owner: control thread. Allocates headers only; blocks never. Anyone may read these files: they hold
//! no data, and the API behind them asks who comes.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use super::Control;
use super::reply::{Answer, ApiError};

/// What a page may load, from where.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     connect-src 'self'; img-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

/// On every file.
fn common_headers() -> [(HeaderName, HeaderValue); 7] {
    let value = HeaderValue::from_static;
    [
        (header::CONTENT_SECURITY_POLICY, value(CONTENT_SECURITY_POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, value("nosniff")),
        (header::REFERRER_POLICY, value("no-referrer")),
        (header::X_FRAME_OPTIONS, value("DENY")),
        (HeaderName::from_static("cross-origin-opener-policy"), value("same-origin")),
        (HeaderName::from_static("cross-origin-resource-policy"), value("same-origin")),
        (header::CACHE_CONTROL, value("no-cache")),
    ]
}

/// A file as it was compiled in.
struct File {
    /// Below `engine/tocsin/dashboard`.
    name: &'static str,
    bytes: &'static [u8],
}

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(File { name: $name, bytes: include_bytes!(concat!("../../dashboard/", $name)) }),*]
    };
}

const FILES: &[File] = files![
    "index.html",
    "icon.svg",
    "styles/base.css",
    "styles/layout.css",
    "styles/parts.css",
    "styles/pages.css",
    "js/boot.js",
    "js/app.js",
    "js/api.js",
    "js/session.js",
    "js/live.js",
    "js/format.js",
    "js/names.js",
    "js/charts.js",
    "js/parts.js",
    "js/dialogs.js",
    "js/shell.js",
    "js/theme.js",
    "js/pages/overview.js",
    "js/pages/sources.js",
    "js/pages/feed.js",
    "js/pages/keys.js",
    "js/pages/accounts.js",
    "js/pages/webhooks.js",
    "js/pages/endpoint.js",
    "js/pages/deliveries.js",
    "js/pages/host.js",
    "js/pages/signin.js",
    "js/pages/warnings.js",
    "vendor/preact-htm.js",
    "vendor/preact-htm.LICENSE.txt",
    "vendor/uplot.js",
    "vendor/uplot.css",
    "vendor/uplot.LICENSE.txt",
];

/// `ETag` of each of [`FILES`].
static TAGS: LazyLock<Vec<HeaderValue>> = LazyLock::new(|| FILES.iter().map(tag).collect());

fn tag(file: &File) -> HeaderValue {
    let digest = ring::digest::digest(&ring::digest::SHA256, file.bytes);
    let hex: String = digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    // Hex digits in quotes always are a header's value.
    HeaderValue::from_str(&format!("\"{hex}\"")).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

/// The routes, for anyone.
pub(super) fn routes() -> Router<Arc<Control>> {
    Router::new().route("/", get(async |headers: HeaderMap| serve("index.html", &headers))).route(
        "/assets/{*name}",
        get(async |Path(name): Path<String>, headers: HeaderMap| serve(&name, &headers)),
    )
}

/// Whether a path is one of these files.
pub(super) fn holds(path: &str) -> bool {
    path == "/"
        || path.strip_prefix("/assets/").is_some_and(|name| FILES.iter().any(|file| file.name == name))
}

fn serve(name: &str, asked: &HeaderMap) -> Answer {
    let found = FILES.iter().zip(TAGS.iter()).find(|(file, _)| file.name == name);
    let Some((file, tag)) = found else {
        return Err(ApiError::new(StatusCode::NOT_FOUND, "not_found", "there is no such file"));
    };
    let known = asked.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let tag_text = tag.to_str().unwrap_or_default();
    let unchanged = known.is_some_and(|known| known.split(',').any(|one| one.trim() == tag_text));
    let mut response: Response = if unchanged {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, content_type(file.name))], file.bytes).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, tag.clone());
    headers.extend(common_headers());
    Ok(response)
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn folder() -> std::path::PathBuf {
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboard")
    }

    fn on_disk(folder: &std::path::Path, within: &str, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{within}{}", path.file_name().unwrap().to_string_lossy());
            if path.is_dir() {
                on_disk(&path, &format!("{name}/"), found);
            } else {
                found.insert(name);
            }
        }
    }

    fn text(file: &File) -> &'static str {
        std::str::from_utf8(file.bytes).unwrap()
    }

    #[test]
    fn what_is_in_the_folder_is_served_and_nothing_else() {
        let mut found = BTreeSet::new();
        on_disk(&folder(), "", &mut found);
        let served: BTreeSet<String> = FILES.iter().map(|file| file.name.to_owned()).collect();
        assert_eq!(found, served);
    }

    #[test]
    fn what_the_files_refer_to_is_there() {
        let names: BTreeSet<&str> = FILES.iter().map(|file| file.name).collect();
        let own = FILES.iter().filter(|file| !file.name.starts_with("vendor/"));
        let mut count = 0;
        for file in own {
            for part in text(file).split("/assets/").skip(1) {
                let name: String =
                    part.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_./".contains(*c)).collect();
                assert!(names.contains(name.as_str()), "{}: /assets/{name}", file.name);
                count += 1;
            }
        }
        assert!(count > 20, "the files are read wrongly: {count}");
    }

    #[test]
    fn nothing_is_inline_and_no_other_host_is_named() {
        for file in FILES.iter().filter(|file| !file.name.starts_with("vendor/")) {
            let text = text(file);
            for word in ["://", " style=\"", " onclick=\"", "<style", "eval(", "innerHTML", "javascript:"] {
                // An example of a URL is in a placeholder; a name space is no address.
                let allowed = ["https://bot.example.com", "http://www.w3.org/2000/svg", "https://"];
                let text = allowed.iter().fold(text.to_owned(), |text, allowed| text.replace(allowed, ""));
                assert!(!text.contains(word), "{}: {word}", file.name);
            }
            assert!(text.lines().count() < 700, "{} is long", file.name);
        }
    }

    #[test]
    fn a_file_known_is_not_sent_again() {
        let first = serve("js/app.js", &HeaderMap::new()).unwrap();
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(first.headers()[header::CONTENT_TYPE], "text/javascript; charset=utf-8");
        assert!(
            first.headers()[header::CONTENT_SECURITY_POLICY]
                .to_str()
                .unwrap()
                .starts_with("default-src 'none'")
        );
        let known = HeaderMap::from_iter([(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone())]);
        let second = serve("js/app.js", &known).unwrap();
        assert_eq!(second.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(second.headers()[header::ETAG], first.headers()[header::ETAG]);
        assert_eq!(serve("../Cargo.toml", &HeaderMap::new()).unwrap_err().status, StatusCode::NOT_FOUND);
        assert_eq!(serve("index.html", &known).unwrap().status(), StatusCode::OK, "another file's tag");
    }
}
