"""Cases that the sandbox of this project does not pass, and why. `docs/sandbox.md` tells users about them.

A case that stands here and passes fails the run, so that this list cannot go stale.
"""

KNOWN = {
    "dynamodb: a write that changes nothing, or is refused, is no record": "dynoxide writes a record for a put "
    "that changes nothing",
}
