// Package e2e calls the built programs the way that callers, carriers and
// operators do: with sipp, baresip, linphone, the caller in the binary and raw
// sockets. The agent is a localflow server inside the test, so that a test sees
// both what the caller hears and what the agent is told.
//
// IVRBRIDGE_BIN names the program; without it the tests build it. A test whose
// tool is not installed is skipped, and fails where CI is set.
package e2e
