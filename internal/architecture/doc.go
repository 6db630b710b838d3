// Package architecture holds tests of the source as a whole: which package may
// import which, and how long a file may be. It has no code of its own.
package architecture
