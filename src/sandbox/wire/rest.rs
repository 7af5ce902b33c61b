//! The restJson1 protocol, as AWS Lambda speaks it: the operation is in method and path, some members
//! are in the path, the query and the headers, and a function's payload is the body itself.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header, request};
use serde_json::{Map, Value, json};

use super::{Refusal, Service, header_text, put, read_json};

/// Where Lambda's functions live (`API_Invoke`, "Request Syntax").
const FUNCTIONS: &str = "/2015-03-31/functions";

/// The service and operation that a method and path name.
pub(super) fn route(method: &Method, path: &str) -> Option<(Service, &'static str)> {
    let rest = path.strip_prefix(FUNCTIONS)?;
    let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
    let operation = match (method.as_str(), parts.as_slice()) {
        ("POST", []) => "CreateFunction",
        ("GET", []) => "ListFunctions",
        ("GET", [_]) => "GetFunction",
        ("DELETE", [_]) => "DeleteFunction",
        ("GET", [_, "configuration"]) => "GetFunctionConfiguration",
        ("PUT", [_, "configuration"]) => "UpdateFunctionConfiguration",
        ("PUT", [_, "code"]) => "UpdateFunctionCode",
        ("POST", [_, "invocations"]) => "Invoke",
        _ => "UnknownLambdaOperation",
    };
    Some((Service::Lambda, operation))
}

/// The members of a call, wherever they were. The payload of `Invoke` stays text: what it says is
/// between the caller and the function.
pub(super) fn read(head: &request::Parts, body: &[u8]) -> Result<Value, Refusal> {
    let rest = head.uri.path().strip_prefix(FUNCTIONS).unwrap_or_default();
    let mut parts = rest.split('/').filter(|part| !part.is_empty());
    let name = parts.next().map(unescaped);
    let invokes = parts.next() == Some("invocations");
    let mut input = if invokes { Map::new() } else { object(read_json(body)?) };
    if invokes {
        let payload = std::str::from_utf8(body).map_err(|_| {
            Refusal::new("InvalidRequestContentException", "Could not parse request body into json", 400)
        })?;
        input.insert("Payload".to_owned(), payload.into());
        for (header, member) in [("x-amz-invocation-type", "InvocationType"), ("x-amz-log-type", "LogType")] {
            if let Some(text) = header_text(&head.headers, header) {
                input.insert(member.to_owned(), text.into());
            }
        }
    }
    if let Some(name) = name {
        input.insert("FunctionName".to_owned(), name.into());
    }
    let query = head.uri.query().unwrap_or_default();
    for (member, text) in form_urlencoded::parse(query.as_bytes()) {
        input.insert(member.into_owned(), text.into_owned().into());
    }
    Ok(Value::Object(input))
}

fn object(value: Value) -> Map<String, Value> {
    if let Value::Object(members) = value { members } else { Map::new() }
}

/// A path segment: only `%xx` is special in it, unlike in a form.
fn unescaped(segment: &str) -> String {
    let form = segment.replace('+', "%2B");
    let decoded = form_urlencoded::parse(form.as_bytes()).next();
    decoded.map_or_else(|| segment.to_owned(), |(name, _)| name.into_owned())
}

/// The answer: a status of the operation's own, and for `Invoke` headers and the raw payload.
pub(super) fn answer(operation: &str, result: Result<&Value, &Refusal>, request_id: &str) -> Response<Bytes> {
    let (status, body) = match result {
        Ok(value) if operation == "Invoke" => {
            let status = value["StatusCode"].as_u64().and_then(|status| u16::try_from(status).ok());
            let payload = value["Payload"].as_str().unwrap_or_default().to_owned();
            (status.unwrap_or(200), payload)
        }
        Ok(_) if operation == "DeleteFunction" => (204, String::new()),
        Ok(value) if operation == "CreateFunction" => (201, value.to_string()),
        Ok(value) => (200, value.to_string()),
        Err(refusal) => {
            let side = if refusal.error.status < 500 { "User" } else { "Service" };
            let mut body = (*refusal.members).clone();
            body.insert("Type".to_owned(), side.into());
            // Some of Lambda's error shapes spell it one way, some the other.
            for spelling in ["message", "Message"] {
                body.insert(spelling.to_owned(), refusal.error.message.as_str().into());
            }
            (refusal.error.status, json!(body).to_string())
        }
    };
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    put(headers, "x-amzn-requestid", request_id);
    match result {
        Ok(value) if operation == "Invoke" => {
            for (member, header) in [
                ("FunctionError", "x-amz-function-error"),
                ("LogResult", "x-amz-log-result"),
                ("ExecutedVersion", "x-amz-executed-version"),
            ] {
                if let Some(text) = value[member].as_str() {
                    put(headers, header, text);
                }
            }
        }
        Ok(_) => {}
        Err(refusal) => put(headers, "x-amzn-errortype", &refusal.error.code),
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: &str, uri: &str) -> request::Parts {
        let request = http::Request::builder().method(method).uri(uri).header("x-amz-log-type", "Tail");
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_operation_is_in_method_and_path() {
        for (method, path, operation) in [
            ("POST", "/2015-03-31/functions/hook/invocations", "Invoke"),
            ("POST", "/2015-03-31/functions", "CreateFunction"),
            ("GET", "/2015-03-31/functions/", "ListFunctions"),
            ("DELETE", "/2015-03-31/functions/hook", "DeleteFunction"),
        ] {
            let method = method.parse().unwrap();
            assert_eq!(route(&method, path), Some((Service::Lambda, operation)), "{path}");
        }
        assert_eq!(route(&Method::POST, "/"), None);
    }

    #[test]
    fn an_invocation_is_read_from_path_query_headers_and_body() {
        let arn = "/2015-03-31/functions/arn%3Aaws%3Alambda%3Ax%3A1%3Afunction%3Ah/invocations?Qualifier=7";
        let input = read(&head("POST", arn), b"{\"a\": 1}").unwrap();
        let expected = json!({"FunctionName": "arn:aws:lambda:x:1:function:h", "Qualifier": "7",
            "LogType": "Tail", "Payload": "{\"a\": 1}"});
        assert_eq!(input, expected);
    }

    #[test]
    fn the_functions_answer_is_the_body_and_its_failure_a_header() {
        let failed = json!({"StatusCode": 200, "FunctionError": "Unhandled", "Payload": "{}"});
        let response = answer("Invoke", Ok(&failed), "id");
        assert_eq!(response.headers()["x-amz-function-error"], "Unhandled");
        assert_eq!(response.body().as_ref(), b"{}");
        let missing = Refusal::new("ResourceNotFoundException", "Function not found: f", 404);
        let response = answer("Invoke", Err(&missing), "id");
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-amzn-errortype"]),
            (404, &HeaderValue::from_static("ResourceNotFoundException"))
        );
    }
}
