//! Answers that the load balancer gives itself: fixed responses and redirects, checked as AWS checks them
//! (API pages `FixedResponseActionConfig` and `RedirectActionConfig`).

use serde_json::{Value, json};

use super::load_balancer::text;
use super::{Action, validation};
use crate::world::ApiError;

/// Longest body of a fixed response, in characters.
const BODY_MAX: usize = 1024;
/// Longest host, path and query of a redirect, in characters.
const PART_MAX: usize = 128;
const CONTENT_TYPES: [&str; 5] =
    ["text/plain", "text/css", "text/html", "application/javascript", "application/json"];
/// Members of a redirect and what they are when they are not given: the request's own.
const PARTS: [(&str, &str); 5] = [
    ("Protocol", "#{protocol}"),
    ("Host", "#{host}"),
    ("Port", "#{port}"),
    ("Path", "/#{path}"),
    ("Query", "#{query}"),
];

fn member(action: &Action, config: &str, key: &str) -> Option<String> {
    action.other.get(config)?.get(key).and_then(text)
}

/// Checks a fixed response: "The HTTP response code (2XX, 4XX, or 5XX)", a body and one of five content types.
pub(super) fn check_fixed(action: &Action) -> Result<(), ApiError> {
    let given = |key: &str| member(action, "FixedResponseConfig", key);
    let status = given("StatusCode").unwrap_or_default();
    let known = status.len() == 3
        && status.starts_with(['2', '4', '5'])
        && status.bytes().all(|byte| byte.is_ascii_digit());
    if !known {
        return Err(validation(format!(
            "The status code of a fixed response must be 2XX, 4XX or 5XX, but is '{status}'"
        )));
    }
    if let Some(kind) = given("ContentType").filter(|kind| !CONTENT_TYPES.contains(&kind.as_str())) {
        return Err(validation(format!(
            "The content type of a fixed response must be one of '{}', but is '{kind}'",
            CONTENT_TYPES.join("', '")
        )));
    }
    if given("MessageBody").is_some_and(|body| body.chars().count() > BODY_MAX) {
        return Err(validation(format!(
            "The message body of a fixed response must have at most {BODY_MAX} characters"
        )));
    }
    Ok(())
}

/// Checks a redirect and fills in the members that are not given.
pub(super) fn complete_redirect(action: &mut Action) -> Result<(), ApiError> {
    let status = member(action, "RedirectConfig", "StatusCode").unwrap_or_default();
    if !matches!(status.as_str(), "HTTP_301" | "HTTP_302") {
        return Err(validation(format!(
            "The status code of a redirect must be HTTP_301 or HTTP_302, but is '{status}'"
        )));
    }
    let mut complete = json!({ "StatusCode": status });
    let mut unchanged = true;
    for (key, own) in PARTS {
        let value = member(action, "RedirectConfig", key).unwrap_or_else(|| own.to_owned());
        check_part(key, &value)?;
        // A query alone does not end the loop.
        unchanged &= key == "Query" || value == own;
        complete[key] = Value::String(value);
    }
    if unchanged {
        return Err(ApiError::client(
            "InvalidLoadBalancerAction",
            "You must modify at least one of the following components to avoid a redirect loop: protocol, \
             hostname, port, or path",
        ));
    }
    action.other.insert("RedirectConfig".to_owned(), complete);
    Ok(())
}

fn check_part(key: &str, value: &str) -> Result<(), ApiError> {
    let right = match key {
        "Protocol" => matches!(value, "HTTP" | "HTTPS" | "#{protocol}"),
        "Port" => value == "#{port}" || value.parse::<u16>().is_ok_and(|port| port > 0),
        "Path" => value.starts_with('/') && value.chars().count() <= PART_MAX,
        "Host" => (1..=PART_MAX).contains(&value.chars().count()),
        _ => !value.starts_with('?') && value.chars().count() <= PART_MAX,
    };
    if right {
        return Ok(());
    }
    Err(validation(format!("{key} of a redirect cannot be '{value}'")))
}

/// "You can redirect HTTP to HTTP, HTTP to HTTPS, and HTTPS to HTTPS. You can't redirect HTTPS to HTTP."
pub(super) fn check_secure(listener_protocol: &str, actions: &[Action]) -> Result<(), ApiError> {
    let to_http = |action: &Action| member(action, "RedirectConfig", "Protocol").is_some_and(|p| p == "HTTP");
    if listener_protocol == "HTTPS" && actions.iter().any(to_http) {
        return Err(ApiError::client("InvalidLoadBalancerAction", "You can't redirect HTTPS to HTTP"));
    }
    Ok(())
}
