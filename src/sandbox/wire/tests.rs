use super::*;

fn post(path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reading {
    let mut builder = http::Request::post(path);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    let (head, ()) = builder.body(()).unwrap().into_parts();
    read(&head, body)
}

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded; charset=utf-8");

#[test]
fn who_called_is_read_from_the_signature_and_the_user_agent() {
    let reading = post(
        "/",
        &[
            ("x-amz-target", "AmazonEC2ContainerServiceV20141113.ListClusters"),
            ("content-type", "application/x-amz-json-1.1"),
            ("authorization", "AWS4-HMAC-SHA256 Credential=AKIDX/20261121/eu-central-1/ecs/aws4_request, x"),
            ("user-agent", "aws-sdk-rust/1.3.0 os/linux app/pointsman"),
        ],
        b"{}",
    );
    let Reading::Call(call) = reading else { panic!("{reading:?}") };
    assert_eq!((call.service, call.operation.as_str()), (Service::Ecs, "ListClusters"));
    let caller =
        Caller { access_key: Some("AKIDX".to_owned()), app: Some("pointsman".to_owned()), principal: None };
    assert_eq!(call.caller, caller);
}

#[test]
fn an_unknown_target_is_refused_in_the_protocol_that_asked() {
    let json = [("x-amz-target", "AmazonFoo.SendMessage"), ("content-type", "application/x-amz-json-1.0")];
    let Reading::Refused(framing, refusal) = post("/", &json, b"{}") else { panic!("accepted") };
    let response = answer(&framing, &Err(refusal), "id");
    assert_eq!(response.status(), 400);
    assert_eq!(response.headers()["x-amzn-errortype"], UNKNOWN_OPERATION);

    let Reading::Refused(framing, refusal) = post("/", &[FORM], b"Action=Fly&Version=2016-11-15") else {
        panic!("accepted")
    };
    let body = answer(&framing, &Err(refusal), "id").into_body();
    assert!(String::from_utf8_lossy(&body).contains("<Code>InvalidAction</Code>"), "{body:?}");
}

#[test]
fn cloudwatch_errors_carry_their_shape_and_their_old_query_code() {
    let headers = [("smithy-protocol", "rpc-v2-cbor"), ("content-type", "application/cbor")];
    let path = "/service/GraniteServiceVersion20100801/operation/PutMetricAlarm";
    let Reading::Call(call) = post(path, &headers, &[0xa0]) else { panic!("refused") };
    let refusal = Refusal::new("InvalidParameterValue", "period", 400);
    let response = answer(&call.framing, &Err(refusal), "id");
    assert_eq!(response.headers()["x-amzn-query-error"], "InvalidParameterValue;Sender");
    let body = cbor::read(response.body()).unwrap();
    assert_eq!(body, json!({"__type": "InvalidParameterValueException", "message": "period"}));
}

#[test]
fn a_compressed_body_is_unpacked_before_it_is_read() {
    use std::io::Write as _;
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(b"Action=PutMetricData&Version=2010-08-01&Namespace=App").unwrap();
    let body = packer.finish().unwrap();
    let Reading::Call(call) = post("/", &[FORM, ("content-encoding", "gzip")], &body) else {
        panic!("refused")
    };
    assert_eq!((call.service, call.input), (Service::CloudWatch, json!({"Namespace": "App"})));
}

#[test]
fn a_browser_asking_for_a_page_is_no_aws_client() {
    let (head, ()) = http::Request::get("/").body(()).unwrap().into_parts();
    assert!(matches!(read(&head, b""), Reading::Foreign));
}
