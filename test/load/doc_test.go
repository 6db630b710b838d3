// Package load measures the built program and looks for what calls leave behind:
// many calls at once, many calls a second, calls for hours, and calls through
// networks that spoil their RTP.
//
// IVRBRIDGE_BIN names the program; tests that need it are skipped where it does
// not. Figures are printed and never judged, for machines are shared and noisy:
// what fails a test is a call that is not answered, a key that is wrong, or
// something that remains. docs/performance.md says how to read them.
package load
