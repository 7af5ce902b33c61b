# Runs one invocation of a Python function: event on stdin, outcome on what was stdout.
# The outcome is R and the result, or E and the error, as JSON. What the function prints is its log.
import importlib, json, os, sys, time, traceback

handler, arn, request_id, deadline, root = sys.argv[1:6]
outcome = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)


class Context:
    function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
    function_version = "$LATEST"
    invoked_function_arn = arn
    memory_limit_in_mb = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
    aws_request_id = request_id
    log_group_name = "/aws/lambda/" + function_name
    log_stream_name = "sandbox"
    identity = client_context = None

    def get_remaining_time_in_millis(self):
        return max(0, int(deadline) - int(time.time() * 1000))


def end(kind, value):
    outcome.write(kind + json.dumps(value).encode())
    outcome.close()
    sys.exit(0)


def fail(error, kind=None, message=None):
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename != "<string>"]
    end(b"E", {
        "errorMessage": message or str(error),
        "errorType": kind or type(error).__name__,
        "requestId": request_id,
        "stackTrace": traceback.format_list(own),
    })


sys.path.insert(0, root)
module, _, name = handler.rpartition(".")
try:
    module = importlib.import_module(module.replace("/", "."))
except Exception as error:
    fail(error, "Runtime.ImportModuleError", f"Unable to import module '{module}': {error}")
try:
    function = getattr(module, name)
except AttributeError as error:
    fail(error, "Runtime.HandlerNotFound", f"Handler '{name}' missing on module '{module.__name__}'")
event = json.loads(sys.stdin.buffer.read() or b"null")
try:
    result = function(event, Context())
except Exception as error:
    fail(error)
try:
    json.dumps(result)
except (TypeError, ValueError) as error:
    fail(error, "Runtime.MarshalError", f"Unable to marshal response: {error}")
end(b"R", result)
