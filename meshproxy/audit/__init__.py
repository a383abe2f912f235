"""The audit log: what the allow-lists decided, in a file that shows whether anybody has changed it.

| room | what |
|---|---|
| `lines` | what stands in the file: decisions, and what the log says about itself |
| `chain` | each line holds the hash of the one before; pure, as the next four |
| `checkpoints` | the sidecar's signature over how far the chain goes |
| `verify` | what was changed, removed, exchanged or cut off |
| `query` | who, what, since when |
| `file` | the file itself: opened, taken up after a crash, written, rotated |
| `journal` | a bounded queue, and the thread that empties it into the file |
"""
