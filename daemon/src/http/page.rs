//! The dashboard: a page, its style and its program, all inside the daemon.
//!
//! The page holds no data and needs no token; it asks for one, or takes it from the part of its address that
//! browsers do not send, and reads `/api/overview` with it.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

const HTML: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/page.css");
const PROGRAM: &str = include_str!("page/page.js");
const PLOTS: &str = include_str!("page/plots.js");
const ICON: &str = include_str!("page/icon.svg");

/// Nothing from elsewhere, nothing inline, no form that leaves the page, no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn file(kind: &'static str, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

pub(super) async fn index() -> Response {
    file("text/html; charset=utf-8", HTML)
}

pub(super) async fn style() -> Response {
    file("text/css; charset=utf-8", STYLE)
}

pub(super) async fn program() -> Response {
    file("text/javascript; charset=utf-8", PROGRAM)
}

pub(super) async fn plots() -> Response {
    file("text/javascript; charset=utf-8", PLOTS)
}

pub(super) async fn icon() -> Response {
    file("image/svg+xml", ICON)
}

/// Puts the same strict headers on every answer.
pub(super) async fn strict(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers: [(HeaderName, &'static str); 4] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_from_elsewhere_and_nothing_inline() {
        for text in [HTML, STYLE, PROGRAM, PLOTS, ICON] {
            let elsewhere = text.replace("http://www.w3.org/", "").replace("http://127.0.0.1", "");
            assert!(!elsewhere.contains("http://") && !elsewhere.contains("https://"), "an address: {text}");
            assert!(!elsewhere.contains("url("), "a resource: {text}");
        }
        for inline in ["style=", "<style", "onclick=", "onload=", "onsubmit=", "javascript:"] {
            assert!(!HTML.contains(inline), "{inline}");
        }
        let scripts: Vec<&str> = HTML.matches("<script").collect();
        assert_eq!(scripts.len(), HTML.matches("<script type=\"module\" src=\"/").count());
        for forbidden in ["innerHTML", "outerHTML", "insertAdjacentHTML", "eval(", "localStorage", "console."]
        {
            assert!(!PROGRAM.contains(forbidden) && !PLOTS.contains(forbidden), "{forbidden}");
        }
    }
}
