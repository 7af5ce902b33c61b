//! The Security Token Service, as far as SDK credential chains and smoke tests need it.

use async_trait::async_trait;
use data_encoding::BASE32_NOPAD;
use serde_json::{Value, json};

use super::clock;
use super::wire::{Backend, Refusal, Request};

/// Says yes to everybody, in the name of one account.
#[derive(Debug)]
pub(super) struct Sts {
    pub(super) account: String,
}

/// AWS's default and bounds of a session (`API_AssumeRole`).
const SESSION_SECS_DEFAULT: i64 = 3_600;
const SESSION_SECS: std::ops::RangeInclusive<i64> = 900..=43_200;

#[async_trait]
impl Backend for Sts {
    async fn call(&self, request: Request) -> Result<Value, Refusal> {
        match request.operation.as_str() {
            "GetCallerIdentity" => Ok(json!({
                "Account": self.account,
                "Arn": format!("arn:aws:iam::{}:user/sandbox", self.account),
                "UserId": "AIDASANDBOXSANDBOX000",
            })),
            "AssumeRole" => self.assume_role(&request.input),
            operation => Err(Refusal::unknown_operation(operation)),
        }
    }
}

impl Sts {
    fn assume_role(&self, input: &Value) -> Result<Value, Refusal> {
        let text = |member: &str| {
            let missing = || Refusal::new("ValidationError", format!("{member} is missing"), 400);
            input.get(member).and_then(Value::as_str).filter(|text| !text.is_empty()).ok_or_else(missing)
        };
        let (role_arn, session) = (text("RoleArn")?, text("RoleSessionName")?);
        let role = role_arn.rsplit('/').next().unwrap_or(role_arn);
        let secs = input.get("DurationSeconds").and_then(Value::as_i64).unwrap_or(SESSION_SECS_DEFAULT);
        if !SESSION_SECS.contains(&secs) {
            let range = format!("{} and {}", SESSION_SECS.start(), SESSION_SECS.end());
            return Err(Refusal::new(
                "ValidationError",
                format!("DurationSeconds must be between {range}"),
                400,
            ));
        }
        let secret = BASE32_NOPAD.encode(&rand::random::<[u8; 25]>());
        let expiration = clock::now().as_second() + secs;
        Ok(json!({
            "AssumedRoleUser": {
                "Arn": format!("arn:aws:sts::{}:assumed-role/{role}/{session}", self.account),
                "AssumedRoleId": format!("AROASANDBOXSANDBOX000:{session}"),
            },
            "Credentials": {
                "AccessKeyId": format!("ASIA{}", &secret[..16]),
                "SecretAccessKey": secret,
                "SessionToken": BASE32_NOPAD.encode(&rand::random::<[u8; 40]>()),
                "Expiration": expiration,
            },
        }))
    }
}
