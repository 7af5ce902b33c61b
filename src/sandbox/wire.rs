//! The AWS wire protocols of the sandbox, without any operation's own code.
//!
//! [`read`] turns an HTTP request of an unmodified SDK into a [`Call`]: a service, an operation and a
//! JSON value in API member names, whatever protocol carried it. [`answer`] puts the result back into
//! that protocol's shape. Signatures are not checked.

use std::io::Read as _;

use async_trait::async_trait;
use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::world::ApiError;

mod cbor;
mod names;
mod query;
mod rest;

/// The largest body read, unpacked: `DynamoDB`'s own limit of 16 MiB is the highest of all services here.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// An AWS service that the sandbox answers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// Amazon ECS.
    Ecs,
    /// Elastic Load Balancing v2.
    Elb,
    /// Amazon `CloudWatch`.
    CloudWatch,
    /// Amazon `DynamoDB`.
    DynamoDb,
    /// `DynamoDB` Streams.
    DynamoDbStreams,
    /// AWS Security Token Service.
    Sts,
    /// AWS Lambda.
    Lambda,
    /// Amazon Simple Queue Service.
    Sqs,
    /// Amazon Simple Notification Service.
    Sns,
    /// Amazon `EventBridge`.
    Events,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Ecs,
        Self::Elb,
        Self::CloudWatch,
        Self::DynamoDb,
        Self::DynamoDbStreams,
        Self::Sts,
        Self::Lambda,
        Self::Sqs,
        Self::Sns,
        Self::Events,
    ];

    /// As in `X-Amz-Target` and in the path of rpc-v2-cbor; services of other protocols have none.
    fn target(self) -> Option<&'static str> {
        match self {
            Self::Ecs => Some("AmazonEC2ContainerServiceV20141113"),
            Self::CloudWatch => Some("GraniteServiceVersion20100801"),
            Self::DynamoDb => Some("DynamoDB_20120810"),
            Self::DynamoDbStreams => Some("DynamoDBStreams_20120810"),
            Self::Sqs => Some("AmazonSQS"),
            Self::Events => Some("AWSEvents"),
            Self::Elb | Self::Sts | Self::Lambda | Self::Sns => None,
        }
    }

    /// `Version` of the query protocol and the XML namespace that goes with it.
    fn query_version(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Elb => Some(("2015-12-01", "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/")),
            Self::CloudWatch => Some(("2010-08-01", "http://monitoring.amazonaws.com/doc/2010-08-01/")),
            Self::Sts => Some(("2011-06-15", "https://sts.amazonaws.com/doc/2011-06-15/")),
            Self::Sns => Some(("2010-03-31", "http://sns.amazonaws.com/doc/2010-03-31/")),
            Self::Ecs | Self::DynamoDb | Self::DynamoDbStreams | Self::Lambda | Self::Sqs | Self::Events => {
                None
            }
        }
    }

    /// The prefix of the service's IAM actions.
    pub fn iam_prefix(self) -> &'static str {
        match self {
            Self::Ecs => "ecs",
            Self::Elb => "elasticloadbalancing",
            Self::CloudWatch => "cloudwatch",
            Self::DynamoDb | Self::DynamoDbStreams => "dynamodb",
            Self::Sts => "sts",
            Self::Lambda => "lambda",
            Self::Sqs => "sqs",
            Self::Sns => "sns",
            Self::Events => "events",
        }
    }
}

/// Who called, as far as an unchecked request says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Access key id of the signature.
    pub access_key: Option<String>,
    /// Application id of the SDK's user agent (`AWS_SDK_UA_APP_ID`).
    pub app: Option<String>,
    /// ARN of the role session that the access key belongs to, where the sandbox's STS handed it out.
    pub principal: Option<String>,
}

/// One AWS API call, freed of its protocol.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which service.
    pub service: Service,
    /// Which operation, for example `DescribeServices`.
    pub operation: String,
    /// Input in API member names; instants are epoch seconds.
    pub input: Value,
    /// Who called.
    pub caller: Caller,
    /// How to answer.
    pub framing: Framing,
}

/// What a [`Backend`] needs to know of a call.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which service.
    pub service: Service,
    /// Which operation.
    pub operation: String,
    /// Input in API member names.
    pub input: Value,
    /// Who called.
    pub caller: Caller,
    /// For reads: answer as the service looked this many changes ago.
    pub stale_versions: u32,
}

/// Answers the operations of one or more services.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Carries out one operation.
    async fn call(&self, request: Request) -> Result<Value, Refusal>;

    /// As [`Backend::call`], in JSON text, where that is made without the members; `None` where it is not.
    fn written(&self, _request: &Request) -> Option<Result<String, Refusal>> {
        None
    }
}

/// What an operation answers, in the shapes of the API model.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// As members, for any protocol.
    Members(Value),
    /// As the text of a JSON protocol.
    Json(Bytes),
}

impl From<Value> for Answer {
    fn from(members: Value) -> Self {
        Self::Members(members)
    }
}

impl Answer {
    /// Its members, unless only their text was made.
    pub fn members(&self) -> Option<&Value> {
        match self {
            Self::Members(members) => Some(members),
            Self::Json(_) => None,
        }
    }
}

/// An error answer: an [`ApiError`] and, for the few that have them, further members.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{error}")]
pub struct Refusal {
    /// Code, message and status.
    pub error: ApiError,
    /// Members beside the message, for example `CancellationReasons`.
    pub members: Box<Map<String, Value>>,
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self { error, members: Box::default() }
    }
}

impl Refusal {
    /// An error without further members.
    pub fn new(code: &str, message: impl Into<String>, status: u16) -> Self {
        ApiError { code: code.to_owned(), message: message.into(), status }.into()
    }

    /// The operation does not exist, or the sandbox doesn't know it.
    pub fn unknown_operation(operation: &str) -> Self {
        Self::new(UNKNOWN_OPERATION, format!("the sandbox does not know the operation '{operation}'"), 400)
    }
}

const UNKNOWN_OPERATION: &str = "UnknownOperationException";

/// The protocols by which the sandbox is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Json10,
    Json11,
    Query,
    Cbor,
    Rest,
}

/// How the answer to a request must look.
#[derive(Clone, Debug)]
pub struct Framing {
    protocol: Protocol,
    service: Option<Service>,
    operation: String,
}

/// What an HTTP request turned out to be.
#[derive(Debug)]
pub enum Reading {
    /// A call to carry out.
    Call(Box<Call>),
    /// AWS-shaped, but wrong: answer with this.
    Refused(Framing, Refusal),
    /// No AWS protocol at all.
    Foreign,
}

/// Reads one HTTP request.
pub fn read(head: &request::Parts, body: &[u8]) -> Reading {
    let Some((framing, form)) = framing_of(head, body) else { return Reading::Foreign };
    let Some(service) = framing.service else {
        let refusal = Refusal::unknown_operation(&framing.operation);
        return Reading::Refused(framing, refusal);
    };
    let input = unpacked(&head.headers, body).and_then(|body| match framing.protocol {
        Protocol::Json10 | Protocol::Json11 => read_json(&body),
        Protocol::Cbor => cbor::read(&body).map_err(|error| malformed(&error)),
        Protocol::Rest => rest::read(head, &body),
        Protocol::Query => query::read_form(&form).map_err(|error| {
            Refusal::new("MalformedInput", error.to_string(), StatusCode::BAD_REQUEST.as_u16())
        }),
    });
    let operation = framing.operation.clone();
    match input {
        Ok(input) => Reading::Call(Box::new(Call {
            service,
            operation,
            input,
            caller: caller(&head.headers),
            framing,
        })),
        Err(refusal) => Reading::Refused(framing, refusal),
    }
}

type Form = Vec<(String, String)>;

/// Recognises protocol, service and operation; a form is read here because it carries all three.
fn framing_of(head: &request::Parts, body: &[u8]) -> Option<(Framing, Form)> {
    if let Some((service, operation)) = rest::route(&head.method, head.uri.path()) {
        let framing =
            Framing { protocol: Protocol::Rest, service: Some(service), operation: operation.to_owned() };
        return Some((framing, Form::new()));
    }
    if head.method != http::Method::POST {
        return None;
    }
    if header_text(&head.headers, "smithy-protocol") == Some("rpc-v2-cbor") {
        let (target, operation) = head.uri.path().strip_prefix("/service/")?.split_once("/operation/")?;
        return Some((named(Protocol::Cbor, target, operation), Form::new()));
    }
    let content_type = header_text(&head.headers, header::CONTENT_TYPE.as_str()).unwrap_or_default();
    if let Some(target) = header_text(&head.headers, "x-amz-target") {
        let (target, operation) = target.rsplit_once('.').unwrap_or(("", target));
        let protocol = if content_type.contains("json-1.0") { Protocol::Json10 } else { Protocol::Json11 };
        return Some((named(protocol, target, operation), Form::new()));
    }
    if !content_type.starts_with("application/x-www-form-urlencoded") {
        return None;
    }
    let body = unpacked(&head.headers, body).ok()?;
    let form: Form = form_urlencoded::parse(&body).into_owned().collect();
    let field = |wanted: &str| form.iter().find(|(name, _)| name == wanted).map(|(_, text)| text.as_str());
    let operation = field("Action")?.to_owned();
    let version = field("Version").unwrap_or_default();
    let service = Service::ALL
        .into_iter()
        .find(|service| service.query_version().is_some_and(|(known, _)| known == version));
    Some((Framing { protocol: Protocol::Query, service, operation }, form))
}

fn named(protocol: Protocol, target: &str, operation: &str) -> Framing {
    let service = Service::ALL.into_iter().find(|service| service.target() == Some(target));
    Framing { protocol, service, operation: operation.to_owned() }
}

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn malformed(error: &dyn std::error::Error) -> Refusal {
    let detail = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    Refusal::new("SerializationException", format!("{error}{detail}"), 400)
}

fn read_json(body: &[u8]) -> Result<Value, Refusal> {
    if body.is_empty() {
        return Ok(json!({}));
    }
    match serde_json::from_slice(body) {
        Ok(input @ Value::Object(_)) => Ok(input),
        Ok(_) => Err(Refusal::new("SerializationException", "the body is not a JSON object", 400)),
        Err(error) => Err(malformed(&error)),
    }
}

/// Undoes the request compression that SDKs apply to large `PutMetricData` bodies.
fn unpacked<'a>(headers: &HeaderMap, body: &'a [u8]) -> Result<std::borrow::Cow<'a, [u8]>, Refusal> {
    if header_text(headers, header::CONTENT_ENCODING.as_str()) != Some("gzip") {
        return Ok(body.into());
    }
    let mut plain = Vec::new();
    let read = GzDecoder::new(body).take(BODY_BYTES_MAX as u64 + 1).read_to_end(&mut plain);
    match read {
        Err(error) => Err(malformed(&error)),
        Ok(_) if plain.len() > BODY_BYTES_MAX => {
            Err(Refusal::new("RequestEntityTooLarge", "the unpacked body is over 16 MiB", 413))
        }
        Ok(_) => Ok(plain.into()),
    }
}

fn caller(headers: &HeaderMap) -> Caller {
    let access_key = header_text(headers, header::AUTHORIZATION.as_str())
        .and_then(|text| text.split_once("Credential="))
        .and_then(|(_, scope)| scope.split('/').next())
        .filter(|key| !key.is_empty())
        .map(str::to_owned);
    let app = ["x-amz-user-agent", "user-agent"]
        .into_iter()
        .filter_map(|name| header_text(headers, name))
        .flat_map(str::split_whitespace)
        .find_map(|token| token.strip_prefix("app/"))
        .map(str::to_owned);
    Caller { access_key, app, principal: None }
}

/// Writes the answer in the shape that the request asked for.
pub fn answer(framing: &Framing, result: &Result<Answer, Refusal>, request_id: &str) -> Response<Bytes> {
    let result = match result {
        Ok(Answer::Members(members)) => Ok(members),
        Ok(Answer::Json(text)) => return framing.framed(200, text.clone(), request_id),
        Err(refusal) => Err(refusal),
    };
    if framing.protocol == Protocol::Rest {
        return rest::answer(&framing.operation, result, request_id);
    }
    let (status, body) = match (framing.protocol, result) {
        (Protocol::Json10 | Protocol::Json11, Ok(value)) => (200, json_text(value)),
        // Written above.
        (Protocol::Rest, Ok(_)) => (200, Bytes::new()),
        (Protocol::Cbor, Ok(value)) => (200, cbor::write(value).into()),
        (Protocol::Query, Ok(value)) => {
            let xml = query::write_answer(&framing.operation, framing.namespace(), value, request_id);
            (200, xml.into())
        }
        (_, Err(refusal)) => (refusal.error.status, framing.error_body(refusal, request_id)),
    };
    let mut response = framing.framed(status, body, request_id);
    if let Err(refusal) = result {
        framing.error_headers(refusal, response.headers_mut());
    }
    response
}

/// Written straight into bytes: the formatting machinery of `to_string` costs as much again.
fn json_text(value: &Value) -> Bytes {
    // A value has text keys only, and a vector takes all that is written: neither can fail.
    serde_json::to_vec(value).unwrap_or_default().into()
}

fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

impl Framing {
    /// Whether the answer is the JSON text of its members.
    pub fn is_json(&self) -> bool {
        matches!(self.protocol, Protocol::Json10 | Protocol::Json11)
    }

    fn framed(&self, status: u16, body: Bytes, request_id: &str) -> Response<Bytes> {
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type()));
        put(headers, "x-amzn-requestid", request_id);
        if self.protocol == Protocol::Cbor {
            put(headers, "smithy-protocol", "rpc-v2-cbor");
        }
        response
    }

    fn content_type(&self) -> &'static str {
        match self.protocol {
            Protocol::Json10 => "application/x-amz-json-1.0",
            Protocol::Json11 => "application/x-amz-json-1.1",
            Protocol::Query => "text/xml",
            Protocol::Cbor => "application/cbor",
            Protocol::Rest => "application/json",
        }
    }

    fn namespace(&self) -> &'static str {
        let version = self.service.and_then(Service::query_version);
        version.map_or("http://webservices.amazon.com/doc/unknown/", |(_, namespace)| namespace)
    }

    fn error_body(&self, refusal: &Refusal, request_id: &str) -> Bytes {
        let ApiError { message, status, .. } = &refusal.error;
        if self.protocol == Protocol::Query {
            let code = self.query_code(refusal);
            return query::write_error(self.namespace(), code, message, *status < 500, request_id).into();
        }
        let mut body = (*refusal.members).clone();
        body.insert("__type".to_owned(), self.shape(refusal).into());
        body.insert("message".to_owned(), message.as_str().into());
        let body = Value::Object(body);
        if self.protocol == Protocol::Cbor { cbor::write(&body).into() } else { json_text(&body) }
    }

    fn error_headers(&self, refusal: &Refusal, headers: &mut HeaderMap) {
        if self.protocol == Protocol::Query {
            return;
        }
        put(headers, "x-amzn-errortype", self.shape(refusal));
        // CloudWatch and SQS once spoke the query protocol only: clients still know their errors by
        // those codes.
        if matches!(self.service, Some(Service::CloudWatch | Service::Sqs)) {
            let side = if refusal.error.status < 500 { "Sender" } else { "Receiver" };
            put(headers, "x-amzn-query-error", &format!("{};{side}", self.query_code(refusal)));
        }
    }

    /// The error's name in the query protocol.
    fn query_code<'a>(&self, refusal: &'a Refusal) -> &'a str {
        let code = refusal.error.code.as_str();
        let own = if self.service == Some(Service::Sqs) { SQS_CODES } else { CLOUDWATCH_CODES };
        let renamed = COMMON_CODES.iter().chain(own).find(|(shape, _)| *shape == code);
        renamed.map_or(code, |(_, query)| query)
    }

    /// The error's name in the JSON and CBOR protocols: that of its shape.
    fn shape<'a>(&self, refusal: &'a Refusal) -> &'a str {
        let code = refusal.error.code.as_str();
        // Only CloudWatch speaks both kinds of protocol, so only its backend may name errors the old way.
        if self.service != Some(Service::CloudWatch) {
            return code;
        }
        let renamed = COMMON_CODES.iter().chain(CLOUDWATCH_CODES).find(|(_, query)| *query == code);
        renamed.map_or(code, |(shape, _)| shape)
    }
}

/// Shape name and query code of errors that every service has.
const COMMON_CODES: &[(&str, &str)] = &[
    (UNKNOWN_OPERATION, "InvalidAction"),
    ("AccessDeniedException", "AccessDenied"),
    ("ThrottlingException", "Throttling"),
];

/// Shape name and query code of `CloudWatch`'s errors (its API model's `awsQueryError` traits).
const CLOUDWATCH_CODES: &[(&str, &str)] = &[
    ("InternalServiceFault", "InternalServiceError"),
    ("InvalidFormatFault", "InvalidFormat"),
    ("InvalidParameterCombinationException", "InvalidParameterCombination"),
    ("InvalidParameterValueException", "InvalidParameterValue"),
    ("LimitExceededFault", "LimitExceeded"),
    ("MissingRequiredParameterException", "MissingParameter"),
];

/// Shape name and query code of SQS's errors, where they differ (`awsQueryError` traits of its model).
const SQS_CODES: &[(&str, &str)] = &[
    ("BatchEntryIdsNotDistinct", "AWS.SimpleQueueService.BatchEntryIdsNotDistinct"),
    ("BatchRequestTooLong", "AWS.SimpleQueueService.BatchRequestTooLong"),
    ("EmptyBatchRequest", "AWS.SimpleQueueService.EmptyBatchRequest"),
    ("InvalidBatchEntryId", "AWS.SimpleQueueService.InvalidBatchEntryId"),
    ("MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight"),
    ("PurgeQueueInProgress", "AWS.SimpleQueueService.PurgeQueueInProgress"),
    ("QueueDeletedRecently", "AWS.SimpleQueueService.QueueDeletedRecently"),
    ("QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"),
    ("QueueNameExists", "QueueAlreadyExists"),
    ("TooManyEntriesInBatchRequest", "AWS.SimpleQueueService.TooManyEntriesInBatchRequest"),
    ("UnsupportedOperation", "AWS.SimpleQueueService.UnsupportedOperation"),
];

#[cfg(test)]
mod tests;
