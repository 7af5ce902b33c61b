//! Compiled rule conditions: which rule a request falls under.
//!
//! Everything that can be prepared is prepared when the routing changes, so that judging a request
//! neither allocates nor parses a pattern.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, Method, Uri, header};
use regex::bytes::Regex;

use super::wildcard::{Cidr, Pattern};
use crate::world::elb::regex_bytes;
use crate::world::{Condition, RegexSubject};

/// What a condition can see of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestView<'a> {
    /// HTTP method.
    pub method: &'a Method,
    /// Request target, in origin or absolute form.
    pub uri: &'a Uri,
    /// Headers as the client sent them.
    pub headers: &'a HeaderMap,
    /// Address of the client's connection.
    pub source: IpAddr,
}

impl RequestView<'_> {
    /// Host without its port; an absolute request target wins over the header (RFC 9112 §3.2.2).
    pub fn host(&self) -> &str {
        if let Some(host) = self.uri.host() {
            return host;
        }
        let value = self.headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or("");
        match value.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => value,
        }
    }
}

/// Regular expressions of one condition: alternatives, each matching anywhere in the text unless it says otherwise.
type RegexSet = Vec<Regex>;

fn found(set: &RegexSet, text: &[u8]) -> bool {
    set.iter().any(|regex| regex.is_match(text))
}

/// One compiled condition; its values are alternatives.
#[derive(Clone, Debug)]
pub(super) enum Matcher {
    Path(Vec<Pattern>),
    Host(Vec<Pattern>),
    Header(HeaderName, Vec<Pattern>),
    Method(Vec<String>),
    Query(Vec<(Option<Pattern>, Pattern)>),
    SourceIp(Vec<Cidr>),
    PathRegex(RegexSet),
    HostRegex(RegexSet),
    HeaderRegex(HeaderName, RegexSet),
    /// The condition names something that no request can have, such as an impossible header name.
    Never,
}

impl Matcher {
    pub fn compile(condition: &Condition) -> Self {
        let any_case = |values: &[String]| values.iter().map(|value| Pattern::any_case(value)).collect();
        match condition {
            Condition::Path(values) => {
                Self::Path(values.iter().map(|value| Pattern::exact_case(value)).collect())
            }
            Condition::Host(values) => Self::Host(any_case(values)),
            Condition::Header(name, values) => match HeaderName::from_bytes(name.as_bytes()) {
                Ok(name) => Self::Header(name, any_case(values)),
                Err(_) => Self::Never,
            },
            Condition::Method(values) => Self::Method(values.clone()),
            Condition::Query(pairs) => Self::Query(
                pairs
                    .iter()
                    .map(|(key, value)| (key.as_deref().map(Pattern::any_case), Pattern::any_case(value)))
                    .collect(),
            ),
            Condition::SourceIp(blocks) => {
                Self::SourceIp(blocks.iter().filter_map(|block| Cidr::parse(block)).collect())
            }
            Condition::Regex(subject, patterns) => {
                // Each was compiled once when it came in, so each compiles again.
                let set: RegexSet = patterns.iter().filter_map(|pattern| regex_bytes(pattern).ok()).collect();
                match subject {
                    RegexSubject::Path => Self::PathRegex(set),
                    RegexSubject::Host => Self::HostRegex(set),
                    RegexSubject::Header(name) => HeaderName::from_bytes(name.as_bytes())
                        .map_or(Self::Never, |name| Self::HeaderRegex(name, set)),
                }
            }
        }
    }

    pub fn holds(&self, request: RequestView<'_>) -> bool {
        let any = |patterns: &[Pattern], text: &[u8]| patterns.iter().any(|pattern| pattern.matches(text));
        match self {
            Self::Path(patterns) => any(patterns, request.uri.path().as_bytes()),
            Self::Host(patterns) => any(patterns, request.host().as_bytes()),
            Self::Header(name, patterns) => {
                request.headers.get_all(name).iter().any(|value| any(patterns, value.as_bytes()))
            }
            Self::Method(methods) => methods.iter().any(|method| method == request.method.as_str()),
            Self::Query(wanted) => query_pairs(request.uri.query().unwrap_or("")).any(|(key, value)| {
                wanted.iter().any(|(key_pattern, pattern)| {
                    key_pattern.as_ref().is_none_or(|it| it.matches(key.as_bytes()))
                        && pattern.matches(value.as_bytes())
                })
            }),
            Self::SourceIp(blocks) => blocks.iter().any(|block| block.contains(request.source)),
            Self::PathRegex(set) => found(set, request.uri.path().as_bytes()),
            Self::HostRegex(set) => found(set, request.host().as_bytes()),
            Self::HeaderRegex(name, set) => {
                request.headers.get_all(name).iter().any(|value| found(set, value.as_bytes()))
            }
            Self::Never => false,
        }
    }
}

/// Pairs as they stand in the request, not decoded.
fn query_pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Fills the place-holders `#{protocol}`, `#{host}`, `#{port}`, `#{path}` (without its leading slash)
/// and `#{query}` of a redirect, each in one pass so that a value is never expanded again.
pub(super) fn redirect_location(template: &str, request: RequestView<'_>, port: u16) -> String {
    let mut location = String::with_capacity(template.len() + 32);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("#{") {
        location.push_str(before);
        let Some((name, tail)) = after.split_once('}') else {
            location.push_str("#{");
            rest = after;
            continue;
        };
        match name {
            "protocol" => location.push_str("http"),
            "host" => location.push_str(request.host()),
            "port" => location.push_str(&port.to_string()),
            "path" => location.push_str(request.uri.path().trim_start_matches('/')),
            "query" => location.push_str(request.uri.query().unwrap_or("")),
            unknown => {
                location.push_str("#{");
                location.push_str(unknown);
                location.push('}');
            }
        }
        rest = tail;
    }
    location.push_str(rest);
    if location.ends_with('?') {
        location.pop();
    }
    location
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn texts(values: &[&str]) -> Vec<String> {
        values.iter().map(ToString::to_string).collect()
    }

    fn holds(condition: &Condition) -> bool {
        let request = Request::post("/Shop/cart?Color=red&flag&v=2*")
            .header("host", "API.example.com:8080")
            .header("x-canary", "no")
            .header("x-canary", "Yes-please")
            .body(())
            .unwrap();
        Matcher::compile(condition).holds(RequestView {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            source: "127.0.0.9".parse().unwrap(),
        })
    }

    #[test]
    fn each_kind_of_condition_judges_its_own_part_of_the_request() {
        let query = |key: Option<&str>, value: &str| {
            Condition::Query(vec![(key.map(str::to_owned), value.to_owned())])
        };
        let header = |name: &str, values: &[&str]| Condition::Header(name.to_owned(), texts(values));
        let cases = [
            (Condition::Path(texts(&["/nothing", "/Shop/*"])), true),
            (Condition::Path(texts(&["/shop/*"])), false),
            (Condition::Path(texts(&["/Shop/cart?Color*"])), false),
            (Condition::Host(texts(&["api.*"])), true),
            (Condition::Host(texts(&["api.example.com"])), true),
            (Condition::Host(texts(&["example.com"])), false),
            (header("X-Canary", &["yes*"]), true),
            (header("X-Canary", &["maybe"]), false),
            (header("X-Other", &["*"]), false),
            (header("not a name", &["*"]), false),
            (Condition::Method(texts(&["GET", "POST"])), true),
            (Condition::Method(texts(&["post"])), false),
            (query(Some("color"), "RED"), true),
            (query(Some("colour"), "red"), false),
            (query(None, "r?d"), true),
            (query(Some("flag"), ""), true),
            (query(Some("v"), r"2\*"), true),
            (Condition::SourceIp(texts(&["10.0.0.0/8", "127.0.0.0/8"])), true),
            (Condition::SourceIp(texts(&["10.0.0.0/8", "nonsense"])), false),
            (Condition::Regex(RegexSubject::Path, texts(&["^/Shop/[a-z]+$"])), true),
            (Condition::Regex(RegexSubject::Path, texts(&["^/shop/", "Color"])), false),
            (Condition::Regex(RegexSubject::Host, texts(&[r"^API\.example\.(com|org)$"])), true),
            (Condition::Regex(RegexSubject::Header("X-Canary".to_owned()), texts(&["^Y.s"])), true),
            (Condition::Regex(RegexSubject::Header("x-canary".to_owned()), texts(&["^please"])), false),
        ];
        for (condition, expected) in cases {
            assert_eq!(holds(&condition), expected, "{condition:?}");
        }
    }

    #[test]
    fn a_redirect_is_filled_from_the_request_and_only_once() {
        let request = Request::get("/a/b?x=1").header("host", "example.com:8080").body(()).unwrap();
        let view = RequestView {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            source: "127.0.0.1".parse().unwrap(),
        };
        for (template, expected) in [
            ("#{protocol}://#{host}:#{port}/#{path}?#{query}", "http://example.com:80/a/b?x=1"),
            ("https://other.example/new", "https://other.example/new"),
            ("/#{unknown}/#{path", "/#{unknown}/#{path"),
        ] {
            assert_eq!(redirect_location(template, view, 80), expected);
        }
        let bare = Request::get("/a").body(()).unwrap();
        let view = RequestView { uri: bare.uri(), ..view };
        assert_eq!(redirect_location("/#{path}?#{query}", view, 80), "/a");
        let sly = Request::get("/").header("host", "#{port}").body(()).unwrap();
        let view = RequestView { headers: sly.headers(), ..view };
        assert_eq!(redirect_location("http://#{host}/", view, 80), "http://#{port}/");
    }
}
