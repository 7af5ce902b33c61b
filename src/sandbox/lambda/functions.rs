//! What functions there are: made, changed and shown through the API, or given with the sandbox.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::package::unpack;
use super::run::Code;
use super::{FUNCTIONS_MAX, Lambda, full, uuid};
use crate::sandbox::clock;
use crate::world::ApiError;

/// "Function timeout: 900 seconds (15 minutes)"; "The default is 3 seconds".
const TIMEOUT_SECS: std::ops::RangeInclusive<u32> = 1..=900;
const TIMEOUT_SECS_DEFAULT: u32 = 3;
/// "128 MB to 10,240 MB"; shown, not enforced.
const MEMORY_MB: std::ops::RangeInclusive<u32> = 128..=10_240;
/// "Total environment variables size: 4 KB".
const ENVIRONMENT_BYTES_MAX: usize = 4_096;

/// A function that is a command or a Python file of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LocalFunction {
    /// By which name it is invoked.
    #[serde(default)]
    pub name: String,
    /// The program and its arguments. One word that ends in `.py`, or `.py:function` (default
    /// `handler`), is a Python file.
    pub command: Vec<String>,
    /// Its timeout in seconds; 3 when absent.
    #[serde(default)]
    pub timeout_seconds: Option<u32>,
}

impl std::str::FromStr for LocalFunction {
    type Err = String;

    /// `NAME=COMMAND`; the command is split at blanks.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, command) = text.split_once('=').ok_or("expected NAME=COMMAND")?;
        let command: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        let local = Self { name: name.to_owned(), command, timeout_seconds: None };
        Function::local(&local).map_err(|error| error.message)?;
        Ok(local)
    }
}

/// One function, unqualified.
#[derive(Clone, Debug)]
pub(super) struct Function {
    pub(super) code: Code,
    pub(super) timeout: u32,
    pub(super) memory: u32,
    pub(super) environment: BTreeMap<String, String>,
    runtime: String,
    handler: String,
    role: String,
    description: String,
    code_size: usize,
    sha256: String,
    modified: Timestamp,
    revision: String,
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::client("InvalidParameterValueException", message)
}

fn check_name(name: &str) -> Result<(), ApiError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if (1..=64).contains(&name.len()) && name.chars().all(fits) {
        return Ok(());
    }
    Err(invalid(format!("the function name {name:?} must have 1 to 64 of [a-zA-Z0-9-_]")))
}

fn check_timeout(timeout: u32) -> Result<u32, ApiError> {
    let wrong = || invalid(format!("Value {timeout} at 'timeout' must be from 1 to 900"));
    TIMEOUT_SECS.contains(&timeout).then_some(timeout).ok_or_else(wrong)
}

fn text<'a>(input: &'a Value, member: &str) -> Option<&'a str> {
    input.get(member).and_then(Value::as_str)
}

/// `.py` and `.py:function` as folder and `module.function`.
fn python_file(word: &str) -> Option<Code> {
    let (path, function) = match word.rsplit_once(':') {
        Some((path, function)) if Path::new(path).extension().is_some_and(|it| it == "py") => {
            (path, function)
        }
        _ => (word, "handler"),
    };
    let path = Path::new(path);
    let module = path.extension().is_some_and(|end| end == "py").then(|| path.file_stem()?.to_str())??;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let root = std::path::absolute(folder).ok()?;
    Some(Code::Python { root, handler: format!("{module}.{function}"), _kept: None })
}

impl Function {
    pub(super) fn local(local: &LocalFunction) -> Result<Self, ApiError> {
        check_name(&local.name)?;
        let code = match local.command.as_slice() {
            [] => return Err(invalid(format!("the function {} needs a command", local.name))),
            [word] => python_file(word).unwrap_or_else(|| Code::Command(local.command.clone())),
            _ => Code::Command(local.command.clone()),
        };
        let handler = local.command.join(" ");
        Ok(Self {
            code,
            timeout: check_timeout(local.timeout_seconds.unwrap_or(TIMEOUT_SECS_DEFAULT))?,
            memory: *MEMORY_MB.start(),
            environment: BTreeMap::new(),
            runtime: "provided".to_owned(),
            handler,
            role: String::new(),
            description: "A command of the sandbox's machine".to_owned(),
            code_size: 0,
            sha256: String::new(),
            modified: clock::now(),
            revision: uuid(),
        })
    }

    fn create(input: &Value) -> Result<Self, ApiError> {
        let runtime = text(input, "Runtime").unwrap_or_default();
        if !runtime.starts_with("python3") {
            return Err(invalid(format!(
                "the sandbox runs functions of a python3 runtime, or commands given by --function, not {runtime:?}"
            )));
        }
        let handler = text(input, "Handler").filter(|handler| handler.contains('.'));
        let handler = handler.ok_or_else(|| invalid("Handler must be module.function"))?;
        let role = text(input, "Role").filter(|role| role.starts_with("arn:"));
        let role = role.ok_or_else(|| invalid("Role must be an ARN"))?;
        let mut made = Self {
            code: Code::Command(Vec::new()),
            timeout: TIMEOUT_SECS_DEFAULT,
            memory: *MEMORY_MB.start(),
            environment: BTreeMap::new(),
            runtime: runtime.to_owned(),
            handler: handler.to_owned(),
            role: role.to_owned(),
            description: String::new(),
            code_size: 0,
            sha256: String::new(),
            modified: clock::now(),
            revision: uuid(),
        };
        made.configure(input)?;
        made.take_code(input.get("Code").unwrap_or(&Value::Null))?;
        Ok(made)
    }

    fn take_code(&mut self, code: &Value) -> Result<(), ApiError> {
        let zipped =
            text(code, "ZipFile").ok_or_else(|| invalid("the sandbox takes code as a ZipFile only"))?;
        let zipped = data_encoding::BASE64.decode(zipped.as_bytes());
        let zipped = zipped.map_err(|error| invalid(format!("ZipFile is not base64: {error}")))?;
        let folder = unpack(&zipped)?;
        let root = folder.path().to_owned();
        self.code = Code::Python { root, handler: self.handler.clone(), _kept: Some(folder) };
        self.code_size = zipped.len();
        self.sha256 = data_encoding::BASE64.encode(Sha256::digest(&zipped).as_slice());
        Ok(())
    }

    /// What `CreateFunction` and `UpdateFunctionConfiguration` have in common.
    fn configure(&mut self, input: &Value) -> Result<(), ApiError> {
        let number = |member: &str| {
            input.get(member).filter(|value| !value.is_null()).map(|value| {
                let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
                number.ok_or_else(|| invalid(format!("{member} must be a whole number, found {value}")))
            })
        };
        let timeout = number("Timeout").transpose()?.map(check_timeout).transpose()?;
        let memory = number("MemorySize").transpose()?;
        if memory.is_some_and(|memory| !MEMORY_MB.contains(&memory)) {
            return Err(invalid("MemorySize must be from 128 to 10240"));
        }
        let variables = input.get("Environment").and_then(|environment| environment.get("Variables"));
        if let Some(Value::Object(variables)) = variables {
            self.environment = environment(variables)?;
        }
        self.timeout = timeout.unwrap_or(self.timeout);
        self.memory = memory.unwrap_or(self.memory);
        if let Some(handler) = text(input, "Handler") {
            handler.clone_into(&mut self.handler);
            if let Code::Python { handler: used, .. } = &mut self.code {
                handler.clone_into(used);
            }
        }
        if let Some(description) = text(input, "Description") {
            description.clone_into(&mut self.description);
        }
        self.modified = clock::now();
        self.revision = uuid();
        Ok(())
    }

    fn show(&self, name: &str, arn: &str) -> Value {
        let mut shown = json!({
            "FunctionName": name,
            "FunctionArn": arn,
            "Runtime": self.runtime,
            "Role": self.role,
            "Handler": self.handler,
            "CodeSize": self.code_size,
            "Description": self.description,
            "Timeout": self.timeout,
            "MemorySize": self.memory,
            "LastModified": self.modified.strftime("%Y-%m-%dT%H:%M:%S.%3f+0000").to_string(),
            "CodeSha256": self.sha256,
            "Version": "$LATEST",
            "RevisionId": self.revision,
            "State": "Active",
            "LastUpdateStatus": "Successful",
            "PackageType": "Zip",
            "Architectures": ["x86_64"],
        });
        if !self.environment.is_empty() {
            shown["Environment"] = json!({"Variables": self.environment});
        }
        shown
    }
}

fn environment(variables: &Map<String, Value>) -> Result<BTreeMap<String, String>, ApiError> {
    let own = |(name, value): (&String, &Value)| {
        let value = value.as_str().ok_or_else(|| invalid(format!("the variable {name} must be text")))?;
        Ok((name.clone(), value.to_owned()))
    };
    let environment: BTreeMap<String, String> = variables.iter().map(own).collect::<Result<_, ApiError>>()?;
    let size: usize = environment.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size > ENVIRONMENT_BYTES_MAX {
        return Err(invalid(format!(
            "environment variables exceeded the {ENVIRONMENT_BYTES_MAX} bytes limit"
        )));
    }
    Ok(environment)
}

impl Lambda {
    /// Every operation but `Invoke`.
    pub(super) fn manage(&self, operation: &str, input: &Value) -> Result<Value, ApiError> {
        let name = text(input, "FunctionName").unwrap_or_default();
        match operation {
            "CreateFunction" => self.create(name, input),
            "ListFunctions" => {
                let functions = self.lock();
                let shown = functions.iter().map(|(name, function)| function.show(name, &self.arn(name)));
                Ok(json!({"Functions": shown.collect::<Vec<_>>()}))
            }
            "GetFunction" => {
                let (name, function) = self.find(name)?;
                let shown = function.show(&name, &self.arn(&name));
                Ok(json!({"Configuration": shown, "Code": {"RepositoryType": "sandbox"}}))
            }
            "GetFunctionConfiguration" => {
                let (name, function) = self.find(name)?;
                Ok(function.show(&name, &self.arn(&name)))
            }
            "UpdateFunctionConfiguration" => self.change(name, |function| function.configure(input)),
            "UpdateFunctionCode" => self.change(name, |function| function.take_code(input)),
            "DeleteFunction" => {
                let (name, _) = self.find(name)?;
                self.lock().remove(&name);
                Ok(json!({}))
            }
            other => {
                let message = format!("the sandbox does not know the operation '{other}'");
                Err(ApiError { code: "UnknownOperationException".to_owned(), message, status: 404 })
            }
        }
    }

    fn create(&self, name: &str, input: &Value) -> Result<Value, ApiError> {
        check_name(name)?;
        let made = Function::create(input)?;
        let mut functions = self.lock();
        if functions.contains_key(name) {
            return Err(ApiError {
                code: "ResourceConflictException".to_owned(),
                message: format!("Function already exist: {name}"),
                status: 409,
            });
        }
        if functions.len() >= FUNCTIONS_MAX {
            return Err(full());
        }
        let shown = made.show(name, &self.arn(name));
        functions.insert(name.to_owned(), made);
        Ok(shown)
    }

    fn change(
        &self,
        given: &str,
        change: impl FnOnce(&mut Function) -> Result<(), ApiError>,
    ) -> Result<Value, ApiError> {
        let (name, mut function) = self.find(given)?;
        change(&mut function)?;
        let shown = function.show(&name, &self.arn(&name));
        self.lock().insert(name, function);
        Ok(shown)
    }
}
