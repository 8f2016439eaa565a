// Package supervise keeps child processes running: it starts them with the least that they need (a user of their own, the
// files that they are handed, a scrubbed environment), starts them again when they die, with growing delays, and sees to it
// that none outlives this process.
package supervise
