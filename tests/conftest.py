"""What holds for all tests."""

import signal

# A shell that starts the tests in the background has them ignore SIGINT. What they start would inherit that, and the
# tests that interrupt a command would wait for ever; a handler of our own is not inherited.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
