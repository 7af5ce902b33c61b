//! The Security Token Service, as far as SDK credential chains and smoke tests need it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use data_encoding::BASE32_NOPAD;
use serde_json::{Value, json};

use super::clock;
use super::wire::{Backend, Caller, Refusal, Request};

/// Sessions remembered; of more, the oldest are forgotten and their calls count as anybody's.
const SESSIONS_MAX: usize = 1_000;

/// Whose the access keys are that were handed out.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    /// Access key id, ARN and unique id of the assumed role, the oldest first.
    known: Mutex<VecDeque<Session>>,
}

#[derive(Clone, Debug)]
struct Session {
    access_key: String,
    arn: String,
    id: String,
}

impl Sessions {
    fn remember(&self, session: Session) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.push_back(session);
        if known.len() > SESSIONS_MAX {
            known.pop_front();
        }
    }

    fn find(&self, access_key: &str) -> Option<Session> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().rev().find(|session| session.access_key == access_key).cloned()
    }

    /// ARN of the role session that an access key belongs to.
    pub(super) fn principal(&self, access_key: &str) -> Option<String> {
        self.find(access_key).map(|session| session.arn)
    }
}

/// Says yes to everybody, in the name of one account.
#[derive(Debug)]
pub(super) struct Sts {
    pub(super) account: String,
    pub(super) sessions: Arc<Sessions>,
}

/// AWS's default and bounds of a session (`API_AssumeRole`).
const SESSION_SECS_DEFAULT: i64 = 3_600;
const SESSION_SECS: std::ops::RangeInclusive<i64> = 900..=43_200;
/// Bounds of `RoleSessionName` (`API_AssumeRole`: "Minimum length of 2. Maximum length of 64", and the
/// pattern `[\w+=,.@-]*`).
const SESSION_CHARS: std::ops::RangeInclusive<usize> = 2..=64;

#[async_trait]
impl Backend for Sts {
    async fn call(&self, request: Request) -> Result<Value, Refusal> {
        match request.operation.as_str() {
            "GetCallerIdentity" => Ok(self.identity(&request.caller)),
            "AssumeRole" => self.assume_role(&request.input),
            operation => Err(Refusal::unknown_operation(operation)),
        }
    }
}

impl Sts {
    fn identity(&self, caller: &Caller) -> Value {
        match caller.access_key.as_deref().and_then(|key| self.sessions.find(key)) {
            Some(Session { arn, id, .. }) => json!({"Account": self.account, "Arn": arn, "UserId": id}),
            None => json!({
                "Account": self.account,
                "Arn": format!("arn:aws:iam::{}:user/sandbox", self.account),
                "UserId": "AIDASANDBOXSANDBOX000",
            }),
        }
    }

    fn assume_role(&self, input: &Value) -> Result<Value, Refusal> {
        let wrong = |message: String| Refusal::new("ValidationError", message, 400);
        let text = |member: &str| {
            let missing = || wrong(format!("{member} is missing"));
            input.get(member).and_then(Value::as_str).filter(|text| !text.is_empty()).ok_or_else(missing)
        };
        let (role_arn, session) = (text("RoleArn")?, text("RoleSessionName")?);
        // arn:partition:iam::account:role/path/name
        let role = match role_arn.splitn(6, ':').collect::<Vec<_>>()[..] {
            ["arn", _, "iam", _, _, resource] => resource.strip_prefix("role/"),
            _ => None,
        };
        let Some(role) = role else { return Err(wrong(format!("{role_arn} is invalid"))) };
        let role = role.rsplit('/').next().unwrap_or(role);
        let account = role_arn.split(':').nth(4).filter(|account| !account.is_empty());
        let account = account.unwrap_or(&self.account);
        let fits = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
        if !SESSION_CHARS.contains(&session.chars().count()) || !session.chars().all(fits) {
            return Err(wrong(format!("RoleSessionName {session:?} must have 2 to 64 of [\\w+=,.@-]")));
        }
        let secs = input.get("DurationSeconds").and_then(Value::as_i64).unwrap_or(SESSION_SECS_DEFAULT);
        if !SESSION_SECS.contains(&secs) {
            let range = format!("{} and {}", SESSION_SECS.start(), SESSION_SECS.end());
            return Err(wrong(format!("DurationSeconds must be between {range}")));
        }
        let secret = BASE32_NOPAD.encode(&rand::random::<[u8; 25]>());
        let access_key = format!("ASIA{}", &secret[..16]);
        let arn = format!("arn:aws:sts::{account}:assumed-role/{role}/{session}");
        let id = format!("AROASANDBOXSANDBOX000:{session}");
        self.sessions.remember(Session { access_key: access_key.clone(), arn: arn.clone(), id: id.clone() });
        Ok(json!({
            "AssumedRoleUser": {"Arn": arn, "AssumedRoleId": id},
            "Credentials": {
                "AccessKeyId": access_key,
                "SecretAccessKey": secret,
                "SessionToken": BASE32_NOPAD.encode(&rand::random::<[u8; 40]>()),
                "Expiration": clock::now().as_second() + secs,
            },
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::wire::Service;

    async fn ask(sts: &Sts, operation: &str, input: Value, access_key: &str) -> Result<Value, Refusal> {
        let caller = Caller { access_key: Some(access_key.to_owned()), ..Caller::default() };
        let operation = operation.to_owned();
        sts.call(Request { service: Service::Sts, operation, input, stale_versions: 0, caller }).await
    }

    #[tokio::test]
    async fn whoever_uses_the_credentials_of_a_role_is_that_role() {
        let sts = Sts { account: "111122223333".to_owned(), sessions: Arc::default() };
        let role = json!({"RoleArn": "arn:aws:iam::111122223333:role/app/deploy", "RoleSessionName": "ci"});
        let assumed = ask(&sts, "AssumeRole", role, "AKIDX").await.unwrap();
        let key = assumed["Credentials"]["AccessKeyId"].as_str().unwrap().to_owned();
        let arn = "arn:aws:sts::111122223333:assumed-role/deploy/ci";
        assert_eq!(ask(&sts, "GetCallerIdentity", json!({}), &key).await.unwrap()["Arn"], arn);
        let other = ask(&sts, "GetCallerIdentity", json!({}), "AKIDX").await.unwrap();
        assert_eq!(other["Arn"], "arn:aws:iam::111122223333:user/sandbox");
        assert_eq!(sts.sessions.principal(&key).as_deref(), Some(arn));
    }

    #[tokio::test]
    async fn a_role_or_session_that_cannot_be_is_refused() {
        let sts = Sts { account: "111122223333".to_owned(), sessions: Arc::default() };
        for input in [
            json!({"RoleArn": "deploy", "RoleSessionName": "ci"}),
            json!({"RoleArn": "arn:aws:iam::1:role/x", "RoleSessionName": "a b"}),
            json!({"RoleArn": "arn:aws:iam::1:role/x", "RoleSessionName": "ci", "DurationSeconds": 60}),
        ] {
            let refused = ask(&sts, "AssumeRole", input, "AKIDX").await.unwrap_err();
            assert_eq!(refused.error.code, "ValidationError");
        }
    }
}
